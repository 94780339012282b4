ALLOWED_HOSTS = ["example.com"]
# nginx sets this header itself, whatever the client sent.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
