package keeper

// events hands what the loop sees to those whose work it is.
type events struct {
	*pump
	table  *table
	reaper *reaper
}

func (e events) event(id, kind int32) {
	p := e.table.numbered(id)
	if p == nil {
		return
	}
	switch kind {
	case evStdout, evTerminal:
		p.ready |= 1
		e.enqueue(p)
	case evStderr:
		p.ready |= 2
		e.enqueue(p)
	case evPidfd:
		e.reaper.reap(p)
	}
}
