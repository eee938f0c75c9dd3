package api

import (
	"encoding"
	"encoding/json"
	"reflect"
	"strings"
)

// encode writes a request's body as JSON, without fields that say nothing: the API takes a field that is not there
// for its zero value. The engine has less to read, and a short command is spared what encoding/json does at its
// first look at a type: for a create request that is half a millisecond, most of it for fields that nobody sets.
func encode(v any) ([]byte, error) { return appendValue(nil, reflect.ValueOf(v)) }

func appendValue(b []byte, v reflect.Value) ([]byte, error) {
	if !v.IsValid() {
		return append(b, "null"...), nil
	}
	if !ownForm(v) {
		switch v.Kind() {
		case reflect.Pointer, reflect.Interface:
			if v.IsNil() {
				return append(b, "null"...), nil
			}
			return appendValue(b, v.Elem())
		case reflect.Struct:
			b, err := appendFields(append(b, '{'), v)
			return append(b, '}'), err
		case reflect.Map:
			if v.Type().Key().Kind() == reflect.String && !v.IsNil() && !v.Type().Key().Implements(textMarshaler) {
				return appendMap(b, v)
			}
		}
	}
	leaf, err := json.Marshal(v.Interface())
	return append(b, leaf...), err
}

var (
	jsonMarshaler = reflect.TypeFor[json.Marshaler]()
	textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()
)

// ownForm says whether a value knows itself how it is written.
func ownForm(v reflect.Value) bool {
	t := v.Type()
	return t.Implements(jsonMarshaler) || t.Implements(textMarshaler) ||
		v.CanAddr() && (reflect.PointerTo(t).Implements(jsonMarshaler) || reflect.PointerTo(t).Implements(textMarshaler))
}

// appendFields writes the fields that say something, those of embedded structs among them. b ends with the brace that
// opens the object, or with the fields before.
func appendFields(b []byte, v reflect.Value) (_ []byte, err error) {
	t := v.Type()
	for i := range t.NumField() {
		f, fv := t.Field(i), v.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" || fv.IsZero() {
			continue
		}
		if f.Anonymous && name == "" {
			if fv.Kind() == reflect.Pointer {
				fv = fv.Elem()
			}
			if b, err = appendFields(b, fv); err != nil {
				return nil, err
			}
			continue
		}
		if !f.IsExported() {
			continue
		}
		if name == "" {
			name = f.Name
		}
		if b, err = appendMember(b, name, fv); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func appendMap(b []byte, v reflect.Value) (_ []byte, err error) {
	b = append(b, '{')
	for it := v.MapRange(); it.Next(); {
		if b, err = appendMember(b, it.Key().String(), it.Value()); err != nil {
			return nil, err
		}
	}
	return append(b, '}'), nil
}

func appendMember(b []byte, name string, v reflect.Value) ([]byte, error) {
	if b[len(b)-1] != '{' {
		b = append(b, ',')
	}
	key, err := json.Marshal(name)
	if err != nil {
		return nil, err
	}
	return appendValue(append(append(b, key...), ':'), v)
}
