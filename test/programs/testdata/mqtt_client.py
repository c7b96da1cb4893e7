"""Publishes to itself, in MQTT 5, and, over websockets, is silent for longer than
its keep-alive."""
import queue
import sys
import time

import paho.mqtt.client as mqtt

host, port, transport = sys.argv[1], int(sys.argv[2]), sys.argv[3]
heard = queue.Queue()
c = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, transport=transport, protocol=mqtt.MQTTv5)
c.on_connect = lambda c, userdata, flags, reason, properties: heard.put(f"connected {reason}")
c.on_subscribe = lambda *args: heard.put("subscribed")
c.on_message = lambda c, userdata, m: heard.put(f"{m.qos} {len(m.payload)}")
c.on_disconnect = lambda c, userdata, flags, reason, properties: heard.put(f"disconnected {reason}")
c.connect(host, port, keepalive=3)
c.loop_start()
print(heard.get(timeout=20))
topic = f"self/{transport}/{time.time_ns()}"
c.subscribe(topic, qos=2)
print(heard.get(timeout=20))
for qos, size in (0, 0), (1, 100), (2, 70000), (1, 300000):
    c.publish(topic, b"x" * size, qos=qos)
    print(heard.get(timeout=20))
if transport == "websockets":
    time.sleep(4)
c.publish(topic, b"after", qos=1)
print(heard.get(timeout=20))
c.disconnect()
print(heard.get(timeout=20))
