package httpapi

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestHijackedEndOfInput: a client that has no more input is still there for the output.
func TestHijackedEndOfInput(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := Hijack(w, r, false)
		if err != nil {
			t.Error(err)
			return
		}
		in, err := io.ReadAll(conn)
		if err != nil {
			t.Error(err)
		}
		if err := r.Context().Err(); err != nil {
			t.Errorf("the end of input ended the request: %v", err)
		}
		_, _ = conn.Write([]byte("got " + string(in)))
		conn.Finish()
	}))
	defer srv.Close()
	for _, ahead := range []bool{false, true} { // input sent with the request's head, or after the answer
		c, err := net.Dial("tcp", strings.TrimPrefix(srv.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		head := "POST / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
		if ahead {
			head += "data"
		}
		_, _ = io.WriteString(c, head)
		r := bufio.NewReader(c)
		resp, err := http.ReadResponse(r, nil)
		if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
			t.Fatal(resp, err)
		}
		if !ahead {
			_, _ = io.WriteString(c, "data")
		}
		_ = c.(*net.TCPConn).CloseWrite()
		if got, err := io.ReadAll(r); err != nil || string(got) != "got data" {
			t.Errorf("ahead=%v: %q, %v", ahead, got, err)
		}
		_ = c.Close()
	}
}
