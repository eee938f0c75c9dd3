package httpapi

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

type omitter struct {
	http.ResponseWriter
	fields []Field
}

func (o omitter) Omits() []Field { return o.fields }

func TestFieldsThatCameLater(t *testing.T) {
	fields := []Field{{"A.B", "1.40"}, {"L.X", "1.44"}, {"M.*.N", "1.48"}, {"Top", "1.52"}}
	const whole = `{"A":{"B":1,"C":12345678901234567890,"D":"<&>"},"L":[{"X":1,"Y":[1.50,null,true]},{"X":2}],"M":{"k&":{"N":1},"j":{"N":{"a":1},"O":"x"}},"Top":[1],"Last":null}`
	for v, want := range map[string]string{
		"1.52": whole,
		"1.48": `{"A":{"B":1,"C":12345678901234567890,"D":"<&>"},"L":[{"X":1,"Y":[1.50,null,true]},{"X":2}],"M":{"k&":{"N":1},"j":{"N":{"a":1},"O":"x"}},"Last":null}`,
		"1.44": `{"A":{"B":1,"C":12345678901234567890,"D":"<&>"},"L":[{"X":1,"Y":[1.50,null,true]},{"X":2}],"M":{"k&":{},"j":{"O":"x"}},"Last":null}`,
		"1.24": `{"A":{"C":12345678901234567890,"D":"<&>"},"L":[{"Y":[1.50,null,true]},{}],"M":{"k&":{},"j":{"O":"x"}},"Last":null}`,
	} {
		w := httptest.NewRecorder()
		if err := WriteJSON(omitter{w, Later(fields, v)}, 201, rawJSON(whole)); err != nil {
			t.Fatal(err)
		}
		if got := w.Body.String(); got != want+"\n" || w.Code != 201 || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d\n%s\nwant\n%s", v, w.Code, got, want)
		}
	}
}

// rawJSON is encoded as it is.
type rawJSON string

func (r rawJSON) MarshalJSON() ([]byte, error) { return []byte(r), nil }

// Values that a path leads into but that are no object stay.
func TestPathsIntoScalars(t *testing.T) {
	for _, whole := range []string{`null`, `[]`, `{"A":null}`, `{"A":[]}`, `{"A":"x"}`, `{"A":[1,"y",[{"C":1}]]}`} {
		w := httptest.NewRecorder()
		if err := WriteJSON(omitter{w, []Field{{"A.B", "1.40"}}}, 200, rawJSON(whole)); err != nil || w.Body.String() != whole+"\n" {
			t.Errorf("%s became %s (%v)", whole, w.Body, err)
		}
	}
}
