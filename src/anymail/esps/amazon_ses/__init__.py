"""Amazon SES: https://docs.aws.amazon.com/ses/latest/APIReference-V2/"""
