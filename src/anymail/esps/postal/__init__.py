"""Postal: https://docs.postalserver.io/developer/api and https://apiv1.postalserver.io"""
