"""MailerSend: https://developers.mailersend.com"""
