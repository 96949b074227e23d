"""Which requests are taken on under pressure: decided early, cheaply, and by what they are worth."""
