"""Uploads that the server refuses before it has them, each followed by a request of
another connection. What the uploads are told is up to the kernel's buffers."""
import sys

import requests

base, refusing, other = sys.argv[1:]
uploads = requests.Session()
uploads.trust_env = False
for size in [400000, 1000000, 2000000, 4000000] * 5:
    try:
        uploads.post(base + refusing, data=b"z" * size, timeout=10)
    except requests.ConnectionError:
        pass
    with requests.Session() as s:
        s.trust_env = False
        print(s.post(base + other, data=b"ab", timeout=10).status_code)
    print(uploads.post(base + other, data=b"ab", timeout=10).status_code)
