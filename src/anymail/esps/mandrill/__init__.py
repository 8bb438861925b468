"""Mandrill, today Mailchimp Transactional: https://mailchimp.com/developer/transactional/api/"""
