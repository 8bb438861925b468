"""SparkPost: https://developers.sparkpost.com/api/"""
