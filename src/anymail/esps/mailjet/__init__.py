"""Mailjet: https://dev.mailjet.com/email/reference/"""
