"""What a program on Docker's Python SDK does in a day. Prints "all done" at the end; any surprise is an exception."""
import io
import sys
import tarfile
import time

import docker

c = docker.DockerClient(base_url=sys.argv[1], version=sys.argv[2])
assert c.ping()
assert c.version()["ApiVersion"] == "1.56"
assert c.containers.run("bb", "echo hello", remove=True) == b"hello\n"
try:
    c.containers.run("bb", 'sh -c "echo why >&2; exit 3"', remove=True)
    raise AssertionError("no error for exit 3")
except docker.errors.ContainerError as e:
    assert e.exit_status == 3 and b"why" in e.stderr, e
try:
    c.containers.run("nosuch", "true")
    raise AssertionError("a missing image ran")
except docker.errors.DockerException as e:
    assert "nosuch" in str(e), e

start = int(time.time())
box = c.containers.run("bb", "sleep 600", detach=True, name="pybox", labels={"a": "b"}, ports={"80/tcp": None}, mem_limit="64m",
                       environment={"X": "1"}, volumes={"pyvol": {"bind": "/v", "mode": "rw"}})
box.reload()
assert box.status == "running" and box.attrs["HostConfig"]["Memory"] == 64 << 20
assert int(box.ports["80/tcp"][0]["HostPort"]) > 0
assert box.exec_run("sh -c 'echo $X'").output == b"1\n"
assert box.exec_run('sh -c "echo out; echo err >&2; exit 4"', demux=True) == (4, (b"out\n", b"err\n"))
assert box.stats(stream=False)["memory_stats"]["usage"] > 0
data = io.BytesIO()
with tarfile.open(fileobj=data, mode="w") as t:
    info = tarfile.TarInfo("f")
    info.size = 2
    t.addfile(info, io.BytesIO(b"hi"))
assert box.put_archive("/v", data.getvalue())
bits, stat = box.get_archive("/v/f")
assert stat["name"] == "f" and b"hi" in b"".join(bits)
assert "PID" in box.top()["Titles"]
box.pause()
box.reload()
assert box.status == "paused"
box.unpause()
box.rename("pybox2")
box.update(mem_limit="128m", memswap_limit="256m")
assert [x.name for x in c.containers.list(filters={"label": "a=b"})] == ["pybox2"]
image = box.commit("pyimage", "1")
assert c.images.get("pyimage:1").id == image.id
box.stop(timeout=0)
assert box.wait()["StatusCode"] == 137
box.remove()
seen = [e["Action"] for e in c.events(since=start - 1, until=int(time.time()) + 1, decode=True) if e["Type"] == "container"]
for action in ("create", "start", "die", "destroy"):
    assert action in seen, (action, seen)

sock = c.containers.create("bb", "cat", stdin_open=True)
s = sock.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
sock.start()
s._sock.sendall(b"through the socket\n")
got = b""
while b"through the socket" not in got:
    more = s._sock.recv(100)
    assert more, got
    got += more
s.close()
sock.remove(force=True)

for chunk in c.images.get("bb").save():
    assert chunk
    break
c.images.remove("pyimage:1")
c.volumes.get("pyvol").remove()
assert {n.name for n in c.networks.list()} == {"bridge", "host", "none"}
assert c.info()["Containers"] == 0
c.df()
print("all done")
