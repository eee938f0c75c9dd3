package names

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

func TestBadQuestions(t *testing.T) {
	good := ask(t, "web.front.", dnsmessage.TypeA, 1232)
	change := func(at int, b ...byte) []byte {
		raw := bytes.Clone(good)
		copy(raw[at:], b)
		return raw
	}
	for name, c := range map[string]struct {
		raw  []byte
		want verdict
	}{
		"good":                       {good, fine},
		"empty":                      {nil, silent},
		"less than a header":         {good[:11], silent},
		"an answer":                  {change(2, 0x81), silent},
		"another operation":          {change(2, 0x28), alien},
		"zone transfer":              {ask(t, "web.front.", dnsmessage.TypeAXFR, 0), alien},
		"no question":                {change(5, 0), broken},
		"two questions":              {change(5, 2), broken},
		"answers":                    {change(7, 1), broken},
		"too many records":           {change(11, 5), broken},
		"records that are missing":   {change(11, 2), broken},
		"cut in the name":            {good[:15], broken},
		"cut before the type":        {good[:23], broken},
		"cut in the OPT record":      {good[:len(good)-3], broken},
		"a pointer to itself":        {change(12, 0xC0, 12), broken},
		"a pointer forward":          {change(12, 0xC0, 30), broken},
		"a label of a reserved sort": {change(12, 0x80), broken},
		"too long a name":            {append(good[:12:12], append([]byte(strings.Repeat("\x03abc", 64)), 0, 0, 1, 0, 1)...), broken},
		"too large":                  {append(bytes.Clone(good), make([]byte, MaxQuestion)...), broken},
		"two OPT records":            {append(change(11, 2), good[len(good)-optSize:]...), broken},
		"a record that is too long":  {change(len(good)-2, 0xFF), broken},
	} {
		var q question
		if got := q.parse(c.raw); got != c.want {
			t.Errorf("%s: verdict %d, want %d", name, got, c.want)
		}
		if c.want == broken {
			var m dnsmessage.Message
			if err := m.Unpack(refuse(&q, make([]byte, 0, MaxDatagram), rcodeFormat)); err != nil || m.RCode != dnsmessage.RCodeFormatError || m.ID != 4711 {
				t.Errorf("%s: refused with %+v, %v", name, m.Header, err)
			}
		}
	}
}

func TestWhatIsAnAnswer(t *testing.T) {
	asked := ask(t, "web.example.", dnsmessage.TypeTXT, 0)
	var q question
	q.parse(asked)
	said := refuse(&q, make([]byte, 0, 512), rcodeName)
	change := func(at int, b byte) []byte {
		raw := bytes.Clone(said)
		raw[at] = b
		return raw
	}
	for name, c := range map[string]struct {
		said []byte
		want bool
	}{
		"good":                  {said, true},
		"other spelling":        {change(13, 'W'), true},
		"with records":          {append(bytes.Clone(said), 1, 2, 3), true},
		"another number":        {change(1, said[1]+1), false},
		"a question":            {change(2, 0x01), false},
		"another operation":     {change(2, 0xA8), false},
		"another name":          {change(13, 'x'), false},
		"another type":          {change(q.end-3, 1), false},
		"another class":         {change(q.end-1, 3), false},
		"cut":                   {said[:q.end-1], false},
		"an excuse":             {append(change(5, 0)[:3:3], append([]byte{2}, make([]byte, 8)...)...), true},
		"success about nothing": {append(change(5, 0)[:3:3], make([]byte, 9)...), false},
		"no name of nothing":    {append(change(5, 0)[:3:3], append([]byte{3}, make([]byte, 8)...)...), false},
		"nothing":               {nil, false},
	} {
		if got := answers(c.said, asked, q.end); got != c.want {
			t.Errorf("%s is an answer: %v\n%x", name, got, c.said)
		}
	}
}

// FuzzMessage: nothing that a container sends, and nothing that a server says to it, does harm; what is answered can be read.
func FuzzMessage(f *testing.F) {
	good := ask(f, "web.front.", dnsmessage.TypeA, 1232)
	f.Add(good, good)
	f.Add(ask(f, "2.0.1.10.in-addr.arpa.", dnsmessage.TypePTR, 0), []byte{})
	f.Add(ask(f, "all.front.", dnsmessage.TypeAAAA, 512), good[:12])
	f.Add(append(bytes.Clone(good[:12]), 0xC0, 12, 0, 1, 0, 1), bytes.Repeat([]byte{0xC0}, 600))
	f.Add(bytes.Repeat([]byte{0xFF}, 300), good)
	tab := town()
	f.Fuzz(func(t *testing.T, raw, said []byte) {
		var q question
		switch v := q.parse(raw); v {
		case silent:
			return
		case broken, alien:
			out := refuse(&q, make([]byte, 0, MaxDatagram), rcodeFormat)
			if len(out) > len(raw)+optSize || !bytes.Equal(out[:2], raw[:2]) {
				t.Fatalf("refused %x with %x", raw, out)
			}
			return
		}
		out := tab.answer("c1", &q, make([]byte, 0, MaxDatagram), q.datagram())
		if len(out) > q.datagram() {
			t.Fatalf("%d bytes where %d fit", len(out), q.datagram())
		}
		if out != nil {
			var p dnsmessage.Parser
			if _, err := p.Start(out); err != nil {
				t.Fatalf("an answer that cannot be read: %v", err)
			}
			if _, err := p.AllQuestions(); err != nil {
				t.Fatalf("an answer that cannot be read: %v", err)
			}
			if _, err := p.AllAnswers(); err != nil {
				t.Fatalf("an answer that cannot be read: %v", err)
			}
		}
		if len(said) >= 2 { // a server that knows the number
			copy(said, raw[:2])
		}
		if answers(said, raw, q.end) {
			out := relay(q.copy(), said, plainSize)
			if len(out) > plainSize || len(out) < headerSize || binary.BigEndian.Uint16(out) != binary.BigEndian.Uint16(raw) {
				t.Fatalf("relayed %x as %x", said, out)
			}
		}
	})
}
