import sys

import requests

base = sys.argv[1]
s = requests.Session()
s.trust_env = False


def show(r):
    print(r.status_code, r.request.method, sorted(r.cookies.items()), repr(r.text[:200]))


show(s.get(base + "/echo?a=b c"))
show(s.get(base + "/redirect"))
show(s.get(base + "/status/204"))
show(s.post(base + "/echo", data=b"x" * 300000))
show(s.post(base + "/echo", json={"a": 1}))
show(s.put(base + "/echo", data=b""))
show(s.delete(base + "/echo"))
with s.get(base + "/stream", stream=True) as r:
    print([line for line in r.iter_lines()][1:])
