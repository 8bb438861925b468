"""SendGrid (Twilio): https://www.twilio.com/docs/sendgrid/api-reference"""
