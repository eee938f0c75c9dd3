package procfs

import (
	"testing"
	"time"
)

func TestParsers(t *testing.T) {
	st, ok := parseStat("7 (a) b) S 3 7 7 34817 7 0 0 0 0 0 150 50 0 0 20 0 1 0 1000 0 0")
	if !ok || st.Comm != "a) b" || st.PPID != 3 || st.CPU != 2*time.Second || st.Start != 10*time.Second || st.TTY != 34817 {
		t.Errorf("%+v %v", st, ok)
	}
	if n := parseSystemCPU([]byte("cpu  1 2 3 4 5 6 7 99 100 0\ncpu0 1")); n != 28*uint64(time.Second/ticks) {
		t.Errorf("system time %d", n)
	}
	nets := parseNetDev([]byte("h\nh\n lo: 1 1 1 1 1 1 1 1 1 1 1 1\n eth0: 10 2 0 1 0 0 0 0 20 3 0 4 0 0 0 0\n"))
	if len(nets) != 1 || nets["eth0"].RxBytes != 10 || nets["eth0"].TxBytes != 20 || nets["eth0"].TxDropped != 4 {
		t.Errorf("%+v", nets)
	}
}
