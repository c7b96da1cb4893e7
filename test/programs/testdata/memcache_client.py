import sys

from pymemcache.client.base import Client

c = Client((sys.argv[1], 11211), timeout=20)
print(c.set("a", b"x" * 900000), len(c.get("a")))
print(c.set_many({f"k{i}": b"v%d" % i for i in range(1000)}))
print(len(c.get_many([f"k{i}" for i in range(1000)])))
print(c.set("n", b"1"), c.incr("n", 5), c.delete("n"), c.get("n"))
value, cas = c.gets("k1")
print(value, c.cas("k1", b"w", cas), c.cas("k1", b"w", cas))
try:
    c.set("large", b"x" * 2000000)
except Exception as e:
    print(type(e).__name__, e)
print(c.get("k2"))
