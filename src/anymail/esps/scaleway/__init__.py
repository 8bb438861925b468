"""Scaleway Transactional Email: https://www.scaleway.com/en/developers/api/transactional-email/"""
