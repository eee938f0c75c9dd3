package names

import (
	"encoding/binary"
	"io"
	"os"
	"sync"
	"time"
)

// Bounds of connections over TCP.
const (
	streamsEach = 32   // of a container
	streamsAll  = 1024 // of all
	streamIdle  = 10 * time.Second
	streamWrite = 2 * time.Second // how long a client may leave an answer unread
	maxMessage  = 65535
)

// stream is a client's connection. Its questions are answered as they can be, not in their order (RFC 7766).
type stream struct {
	conn    *os.File
	waiting sync.WaitGroup // for answers from upstream
	mu      sync.Mutex     // one answer is written at a time
}

// startStream serves a connection, unless there are too many.
func (s *Server) startStream(so *sockets, conn *os.File) {
	st := &stream{conn: conn}
	so.streamMu.Lock()
	s.mu.Lock()
	ok := len(so.streams) < streamsEach && s.streams < streamsAll && so.ctx.Err() == nil
	if ok {
		s.streams++
		so.streams[st] = struct{}{}
	}
	s.mu.Unlock()
	so.streamMu.Unlock()
	if !ok {
		_ = conn.Close()
		return
	}
	go func() {
		s.converse(so, st)
		st.waiting.Wait()
		_ = conn.Close()
		so.streamMu.Lock()
		delete(so.streams, st)
		so.streamMu.Unlock()
		s.mu.Lock()
		s.streams--
		s.mu.Unlock()
	}()
}

// converse reads questions until the client has no more, is silent for long, or talks nonsense.
func (s *Server) converse(so *sockets, st *stream) {
	var q question
	in := make([]byte, 2+plainSize)
	out := make([]byte, 0, plainSize)
	for {
		_ = st.conn.SetReadDeadline(time.Now().Add(streamIdle))
		if _, err := io.ReadFull(st.conn, in[:2]); err != nil {
			return
		}
		size := int(binary.BigEndian.Uint16(in))
		if size < headerSize || size > MaxQuestion {
			return
		}
		if size > len(in) {
			in = make([]byte, MaxQuestion)
		}
		if _, err := io.ReadFull(st.conn, in[:size]); err != nil {
			return
		}
		said, servers := s.local(so.container, &q, q.parse(in[:size]), out, cap(out))
		if said != nil && said[2]&(flagTruncated>>8) != 0 { // more than usual
			out = make([]byte, 0, maxMessage)
			said, servers = s.local(so.container, &q, q.parse(in[:size]), out, maxMessage)
		}
		if servers != nil {
			st.waiting.Add(1)
			if s.forward.ask(so, servers, &q, st) {
				continue
			}
			st.waiting.Done()
			said = refuse(&q, out, rcodeServer)
		}
		if said == nil || !st.write(said) {
			return
		}
	}
}

func (st *stream) overTCP() bool { return true }

func (st *stream) limit(*question) int { return maxMessage }

func (st *stream) tell(said []byte) {
	defer st.waiting.Done()
	if !st.write(said) {
		_ = st.conn.Close() // half an answer was written: the rest of the stream makes no sense
	}
}

func (st *stream) write(said []byte) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	_ = st.conn.SetWriteDeadline(time.Now().Add(streamWrite))
	framed := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(said)), uint16(len(said)))
	_, err := st.conn.Write(append(framed, said...))
	return err == nil
}
