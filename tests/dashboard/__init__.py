"""The pages for operators, asked as a browser asks: through a socket, or by a browser."""
