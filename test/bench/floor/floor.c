// The kernel's floor: what the kernel itself charges for the life of one
// container, done by the plainest program that does the same work. It makes
// namespaces, cgroups, a veth pair on a bridge with address and route, an
// overlay root with /proc, /dev and masked paths, pivots, executes a static
// `true`, waits, and cleans up.
//
//   floor -n 200                back to back
//   floor -n 100 -i 20          one every 20 ms
//   floor -n 100 -N             without network
//   floor -n 100 -b gantry0     with its ports on a bridge that is there
//
// Prints: median, mean and 95th percentile in milliseconds, and CPU milliseconds per container.
// It must run as root in a mount and network namespace of its own.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char base[256];
static int with_net = 1;
static const char *bridge; /* one that is there; else one is made */
static int bridge_index;
static char cgroups[16][256];
static int n_cgroups, cgroup2;

static void die(const char *what) { perror(what); exit(1); }

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static int put(const char *path, const char *text) {
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0) return -1;
	int r = write(fd, text, strlen(text)) < 0 ? -1 : 0;
	close(fd);
	return r;
}

/* ---- netlink ---- */
struct req { struct nlmsghdr h; char body[1024]; };

static struct rtattr *attr(struct nlmsghdr *h, int type, const void *data, int len) {
	struct rtattr *a = (struct rtattr *)((char *)h + NLMSG_ALIGN(h->nlmsg_len));
	a->rta_type = type;
	a->rta_len = RTA_LENGTH(len);
	if (len) memcpy(RTA_DATA(a), data, len);
	h->nlmsg_len = NLMSG_ALIGN(h->nlmsg_len) + RTA_ALIGN(a->rta_len);
	return a;
}
static void end(struct nlmsghdr *h, struct rtattr *a) { a->rta_len = (char *)h + h->nlmsg_len - (char *)a; }

static int talk(int s, struct nlmsghdr *h, const char *what) {
	h->nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
	if (send(s, h, h->nlmsg_len, 0) < 0) die(what);
	char buf[4096];
	if (recv(s, buf, sizeof buf, 0) < 0) die(what);
	struct nlmsghdr *r = (struct nlmsghdr *)buf;
	if (r->nlmsg_type == NLMSG_ERROR) {
		int e = ((struct nlmsgerr *)NLMSG_DATA(r))->error;
		if (e) { errno = -e; return -1; }
	}
	return 0;
}
static int nl(void) {
	int s = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (s < 0) die("netlink");
	return s;
}
static void link_up(int s, int index) {
	struct req q = {{NLMSG_LENGTH(sizeof(struct ifinfomsg)), RTM_NEWLINK, 0, 0, 0}};
	struct ifinfomsg *i = NLMSG_DATA(&q.h);
	i->ifi_index = index; i->ifi_flags = IFF_UP; i->ifi_change = IFF_UP;
	if (talk(s, &q.h, "link up")) die("link up");
}
static void address(int s, int index, const char *ip) {
	struct req q = {{NLMSG_LENGTH(sizeof(struct ifaddrmsg)), RTM_NEWADDR, NLM_F_CREATE, 0, 0}};
	struct ifaddrmsg *a = NLMSG_DATA(&q.h);
	struct in_addr in;
	inet_pton(AF_INET, ip, &in);
	a->ifa_family = AF_INET; a->ifa_prefixlen = 16; a->ifa_index = index;
	attr(&q.h, IFA_LOCAL, &in, 4); attr(&q.h, IFA_ADDRESS, &in, 4);
	if (talk(s, &q.h, "address")) die("address");
}
static void route(int s, const char *gw) {
	struct req q = {{NLMSG_LENGTH(sizeof(struct rtmsg)), RTM_NEWROUTE, NLM_F_CREATE, 0, 0}};
	struct rtmsg *r = NLMSG_DATA(&q.h);
	struct in_addr in;
	inet_pton(AF_INET, gw, &in);
	r->rtm_family = AF_INET; r->rtm_table = RT_TABLE_MAIN; r->rtm_protocol = RTPROT_BOOT; r->rtm_scope = RT_SCOPE_UNIVERSE; r->rtm_type = RTN_UNICAST;
	attr(&q.h, RTA_GATEWAY, &in, 4);
	if (talk(s, &q.h, "route")) die("route");
}
static void make_bridge(void) {
	if (bridge) {
		if (!(bridge_index = if_nametoindex(bridge))) die(bridge);
		return;
	}
	int s = nl();
	struct req q = {{NLMSG_LENGTH(sizeof(struct ifinfomsg)), RTM_NEWLINK, NLM_F_CREATE, 0, 0}};
	attr(&q.h, IFLA_IFNAME, "floor0", 7);
	struct rtattr *info = attr(&q.h, IFLA_LINKINFO, 0, 0);
	attr(&q.h, IFLA_INFO_KIND, "bridge", 6);
	end(&q.h, info);
	if (talk(s, &q.h, "bridge") && errno != EEXIST) die("bridge");
	bridge_index = if_nametoindex("floor0");
	link_up(s, bridge_index);
	address(s, bridge_index, "10.99.0.1");
	close(s);
}
static void make_veth(int pid, int seq) {
	int s = nl();
	char host[IFNAMSIZ];
	snprintf(host, sizeof host, "fl%d", seq);
	struct req q = {{NLMSG_LENGTH(sizeof(struct ifinfomsg)), RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0, 0}};
	attr(&q.h, IFLA_IFNAME, host, strlen(host) + 1);
	attr(&q.h, IFLA_MASTER, &bridge_index, 4);
	struct rtattr *info = attr(&q.h, IFLA_LINKINFO, 0, 0);
	attr(&q.h, IFLA_INFO_KIND, "veth", 4);
	struct rtattr *data = attr(&q.h, IFLA_INFO_DATA, 0, 0);
	struct rtattr *peer = attr(&q.h, VETH_INFO_PEER, 0, 0);
	q.h.nlmsg_len += sizeof(struct ifinfomsg);
	attr(&q.h, IFLA_IFNAME, "eth0", 5);
	attr(&q.h, IFLA_NET_NS_PID, &pid, 4);
	end(&q.h, peer); end(&q.h, data); end(&q.h, info);
	if (talk(s, &q.h, "veth")) die("veth");
	link_up(s, if_nametoindex(host));
	close(s);
}

/* ---- the container ---- */
static int gate[2];
static char lower[300], upper[300], work[300];

static void mnt(const char *src, const char *dst, const char *type, unsigned long flags, const char *data) {
	if (mount(src, dst, type, flags, data)) die(dst);
}

static int child(void *arg) {
	(void)arg;
	char c, opts[1024], root[300];
	for (int i = 0; i < n_cgroups; i++) {
		char p[300];
		snprintf(p, sizeof p, "%s/%s", cgroups[i], cgroup2 ? "cgroup.procs" : "tasks");
		if (put(p, "0")) die(p);
	}
	if (read(gate[0], &c, 1) != 1) die("gate");
	if (unshare(CLONE_NEWCGROUP)) die("cgroup namespace");
	if (with_net) {
		int s = nl(), i = if_nametoindex("eth0");
		link_up(s, 1); address(s, i, "10.99.0.2"); link_up(s, i); route(s, "10.99.0.1");
		close(s);
	}
	snprintf(root, sizeof root, "%s/merged", base);
	mnt("", "/", 0, MS_REC | MS_PRIVATE, 0);
	snprintf(opts, sizeof opts, "lowerdir=%s,upperdir=%s,workdir=%s", lower, upper, work);
	mnt("overlay", root, "overlay", 0, opts);
	if (chdir(root)) die(root);
	mnt("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, 0);
	mnt("tmpfs", "dev", "tmpfs", MS_NOSUID, "mode=755,size=65536k");
	mkdir("dev/pts", 0755); mkdir("dev/shm", 0755); mkdir("dev/mqueue", 0755);
	mnt("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620");
	mnt("sysfs", "sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, 0);
	mnt("mqueue", "dev/mqueue", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, 0);
	mnt("shm", "dev/shm", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=1777,size=65536k");
	static const struct { const char *n; int min; } dev[] = {{"dev/null", 3}, {"dev/zero", 5}, {"dev/full", 7}, {"dev/random", 8}, {"dev/urandom", 9}};
	for (unsigned i = 0; i < sizeof dev / sizeof *dev; i++)
		if (mknod(dev[i].n, S_IFCHR | 0666, makedev(1, dev[i].min))) die(dev[i].n);
	static const char *masked[] = {"proc/kcore", "proc/keys", "proc/timer_list"};
	for (unsigned i = 0; i < 3; i++) mount("dev/null", masked[i], 0, MS_BIND, 0);
	static const char *ro[] = {"proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"};
	for (unsigned i = 0; i < 5; i++)
		if (!mount(ro[i], ro[i], 0, MS_BIND | MS_REC, 0)) mount(ro[i], ro[i], 0, MS_BIND | MS_REC | MS_REMOUNT | MS_RDONLY, 0);
	if (syscall(SYS_pivot_root, ".", ".")) die("pivot_root");
	if (umount2(".", MNT_DETACH)) die("umount");
	if (chdir("/")) die("/");
	sethostname("floor", 5);
	char *argv[] = {"true", 0}, *env[] = {"PATH=/bin", 0};
	execve("/bin/true", argv, env);
	die("exec");
	return 1;
}

static int compare(const void *a, const void *b) { double d = *(double *)a - *(double *)b; return d < 0 ? -1 : d > 0; }

static void clean(void) {
	for (int i = 0; i < n_cgroups; i++) rmdir(cgroups[i]);
	char p[400];
	snprintf(p, sizeof p, "%s/work", work); rmdir(p);
	snprintf(p, sizeof p, "%s/index", work); rmdir(p);
	static const char *left[] = {"proc", "dev", "sys"};
	for (int i = 0; i < 3; i++) { snprintf(p, sizeof p, "%s/%s", upper, left[i]); rmdir(p); }
	rmdir(upper); rmdir(work);
}

static const char *v1[] = {"cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "systemd"};

/* one container's whole life; gives its time in ms */
static double once(int k) {
	static char stack[1 << 16];
	char p[400];
	double start = now();
	n_cgroups = 0;
	if (cgroup2) {
		snprintf(cgroups[n_cgroups++], 256, "/sys/fs/cgroup/floor-%d-%d", getpid(), k);
		mkdir(cgroups[0], 0755);
	} else for (unsigned i = 0; i < sizeof v1 / sizeof *v1; i++) {
		char *c = cgroups[n_cgroups];
		snprintf(c, 256, "/sys/fs/cgroup/%s/floor-%d-%d", v1[i], getpid(), k);
		if (mkdir(c, 0755)) continue;
		n_cgroups++;
		if (!strcmp(v1[i], "cpuset")) {
			snprintf(p, sizeof p, "%s/cpuset.cpus", c); put(p, "0-1");
			snprintf(p, sizeof p, "%s/cpuset.mems", c); put(p, "0");
		}
	}
	snprintf(upper, sizeof upper, "%s/u%d", base, k); snprintf(work, sizeof work, "%s/w%d", base, k);
	mkdir(upper, 0755); mkdir(work, 0755);
	if (pipe2(gate, O_CLOEXEC)) die("pipe");
	int flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | SIGCHLD | (with_net ? CLONE_NEWNET : 0);
	int pid = clone(child, stack + sizeof stack, flags, 0);
	if (pid < 0) die("clone");
	if (with_net) make_veth(pid, k);
	if (write(gate[1], "x", 1) != 1) die("gate");
	int status;
	if (waitpid(pid, &status, 0) < 0 || status) { fprintf(stderr, "container ended with status %x\n", status); exit(1); }
	close(gate[0]); close(gate[1]);
	clean();
	return now() - start;
}

static double cpu(void) {
	double ms = 0;
	struct rusage u;
	for (int who = 0; who < 2; who++) {
		getrusage(who ? RUSAGE_CHILDREN : RUSAGE_SELF, &u);
		ms += u.ru_utime.tv_sec * 1e3 + u.ru_utime.tv_usec / 1e3 + u.ru_stime.tv_sec * 1e3 + u.ru_stime.tv_usec / 1e3;
	}
	return ms;
}

/* n containers, one every interval ms (0 is back to back) */
static void run(double *t, int first, int n, int interval) {
	double next = now();
	for (int k = 0; k < n; k++) {
		if (interval) {
			double wait = next - now();
			if (wait > 0) usleep((int)(wait * 1e3));
			next += interval;
		}
		t[k] = once(first + k);
	}
}

int main(int argc, char **argv) {
	int n = 200, interval = 0, serve = 0, o;
	while ((o = getopt(argc, argv, "n:i:b:Ns")) > 0) switch (o) {
		case 'n': n = atoi(optarg); break;
		case 'i': interval = atoi(optarg); break;
		case 'b': bridge = optarg; break;
		case 'N': with_net = 0; break;
		case 's': serve = 1; break;
		default: fprintf(stderr, "usage: floor [-n count] [-i every-ms] [-b bridge] [-N] [-s]\n-s: each line \"count every-ms\" of input is run, and answered with the times and the CPU time in ms\n"); return 2;
	}
	if (mount("", "/", 0, MS_REC | MS_PRIVATE, 0)) die("private mounts");
	snprintf(base, sizeof base, "%s/floor-XXXXXX", getenv("FLOOR_DIR") ? getenv("FLOOR_DIR") : "/var/tmp");
	if (!mkdtemp(base)) die(base);
	char p[400];
	snprintf(lower, sizeof lower, "%s/lower", base);
	static const char *dirs[] = {"lower", "lower/bin", "lower/proc", "lower/dev", "lower/sys", "merged"};
	for (int i = 0; i < 6; i++) { snprintf(p, sizeof p, "%s/%s", base, dirs[i]); if (mkdir(p, 0755)) die(p); }
	snprintf(p, sizeof p, "cp /bin/busybox %s/lower/bin/true", base);
	if (system(p)) return 1;
	if (with_net) make_bridge();
	cgroup2 = access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0;
	if (serve) {
		int first = 0;
		while (scanf("%d %d", &n, &interval) == 2 && n > 0) {
			double *t = calloc(n, sizeof *t), before = cpu();
			run(t, first, n, interval);
			first += n;
			for (int k = 0; k < n; k++) printf("%.3f ", t[k]);
			printf("%.3f\n", cpu() - before);
			fflush(stdout);
			free(t);
		}
	} else {
		double *t = calloc(n, sizeof *t), before = cpu(), sum = 0;
		run(t, 0, n, interval);
		double used = cpu() - before;
		qsort(t, n, sizeof *t, compare);
		for (int k = 0; k < n; k++) sum += t[k];
		printf("%.3f %.3f %.3f %.3f\n", t[n / 2], sum / n, t[(int)(n * .95)], used / n);
	}
	snprintf(p, sizeof p, "rm -rf %s", base);
	return system(p) != 0;
}
