package apicheck

import (
	"strings"
	"testing"
)

const small = `
paths:
  /x:
    get:
      responses:
        200: {schema: {$ref: "#/definitions/X"}}
        204: {description: nothing}
definitions:
  Base: {type: object, required: [ID], properties: {ID: {type: string}}}
  X:
    allOf:
      - $ref: "#/definitions/Base"
      - type: object
        properties:
          N: {type: integer}
          State: {type: string, enum: [on, "off"]}
          List: {type: array, items: {$ref: "#/definitions/Base"}}
          Labels: {type: object, additionalProperties: {type: string}}
          Maybe: {type: string, x-nullable: true}
`

func TestChecks(t *testing.T) {
	s, err := Parse([]byte(small))
	if err != nil {
		t.Fatal(err)
	}
	for body, want := range map[string]string{
		`{"ID":"a","N":1,"State":"on","List":[{"ID":"b"}],"Labels":{"x":"y"},"Maybe":null}`: "",
		`{"ID":"a","List":null}`:      "",
		`{"N":1}`:                     "$: the required field ID is missing",
		`{"ID":null}`:                 "$.ID: null instead of string",
		`{"ID":"a","N":1.5}`:          "$.N: ",
		`{"ID":"a","N":"1"}`:          "$.N: ",
		`{"ID":"a","State":"x"}`:      "$.State: ",
		`{"ID":"a","List":[{}]}`:      "$.List[0]: the required field ID",
		`{"ID":"a","Labels":{"x":1}}`: "$.Labels.x: ",
		`{"ID":"a","Other":1}`:        "$.Other: the description has no such field",
		`[]`:                          "$: ",
		`{"ID":"a"} {}`:               "$: there is more",
	} {
		errs := s.Response("GET", "/x", 200, []byte(body))
		got := ""
		if len(errs) > 0 {
			got = errs[0].Error()
		}
		if want == "" && got != "" || !strings.HasPrefix(got, want) || len(errs) > 1 {
			t.Errorf("%s: %v, want %q", body, errs, want)
		}
	}
	if errs := s.Response("GET", "/x", 204, []byte("x")); len(errs) != 1 {
		t.Errorf("a body where none may be: %v", errs)
	}
	if errs := s.Response("PUT", "/x", 200, nil); len(errs) != 1 {
		t.Errorf("an unknown method: %v", errs)
	}
}

func TestRealDescription(t *testing.T) {
	Response(t, "GET", "/plugins", 200, []byte(`[]`))
	if errs := Load(t).Response("GET", "/version", 200, []byte(`{"Version":1}`)); len(errs) == 0 {
		t.Error("a number passed as version")
	}
	Definition(t, "ErrorResponse", []byte(`{"message":"x"}`))
	Stream(t, "GET", "/events", 200, []byte(`{"Type":"container","Action":"die"}{"Type":"image"}`))
}
