package keeper

import (
	"fmt"
	"os"
	"sync"
	"time"
)

// boundedLog is the keeper's own log: a file on the exec root that is begun anew when it is big.
type boundedLog struct {
	mu   sync.Mutex
	path string
	f    *os.File
	size int64
}

const ownLogMax = 1 << 20

func openBoundedLog(path string) *boundedLog {
	l := &boundedLog{path: path}
	l.reopen()
	return l
}

func (l *boundedLog) reopen() {
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return
	}
	l.f = f
	if st, err := f.Stat(); err == nil {
		l.size = st.Size()
	}
}

func (l *boundedLog) printf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return
	}
	if l.size > ownLogMax {
		_ = l.f.Close()
		_ = os.Rename(l.path, l.path+".1")
		l.f, l.size = nil, 0
		if l.reopen(); l.f == nil {
			return
		}
	}
	line := time.Now().UTC().Format(time.RFC3339Nano) + " keeper[" + fmt.Sprint(os.Getpid()) + "] " + fmt.Sprintf(format, args...) + "\n"
	n, _ := l.f.WriteString(line)
	l.size += int64(n)
}
