"""Django's webhook views, one module for each ESP."""
