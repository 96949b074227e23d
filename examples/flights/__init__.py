"""The demo: will a flight that is about to leave arrive more than 15 minutes late?"""
