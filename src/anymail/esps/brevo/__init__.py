"""Brevo, formerly Sendinblue: https://developers.brevo.com/reference"""
