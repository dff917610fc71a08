RATES = "rates"
