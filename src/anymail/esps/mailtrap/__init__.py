"""Mailtrap: https://docs.mailtrap.io/developers"""
