"""Unisender Go: https://godocs.unisender.ru/web-api-ref"""
