package gateway

import (
	"errors"
	"testing"
)

// What a real gateway sees of the bindings is tested in Tests/System/languages: a test of Go cannot contain C.

func object() Value {
	list := Value{Kind: Array, Name: "list", Children: []Value{{Kind: Number, Text: "1", Number: 1}, {Kind: Boolean, Number: 1}}}
	return Value{Kind: Object, Children: []Value{{Kind: String, Name: "path", Text: "a/b"}, list, {Kind: Number, Name: "n", Text: "-1", Number: -1}}}
}

func TestValuesAreReadByKind(t *testing.T) {
	value := object()
	if path, ok := value.Member("path").AsString(); !ok || path != "a/b" {
		t.Errorf("path is %q", path)
	}
	if _, ok := value.Member("path").AsUint(); ok {
		t.Error("a string is no number")
	}
	if _, ok := value.Member("n").AsUint(); ok {
		t.Error("-1 is taken")
	}
	if number, ok := value.Member("list").Children[0].AsUint(); !ok || number != 1 {
		t.Errorf("the number is %d", number)
	}
	if is, ok := value.Member("list").Children[1].AsBool(); !is || !ok {
		t.Error("true is not true")
	}
	if value.Member("x") != nil || value.Member("x").Member("y") != nil || value.Member("path").Member("path") != nil {
		t.Error("there is a member that is not there")
	}
	if _, ok := value.Member("x").AsString(); ok {
		t.Error("what is not there is a string")
	}
}

func TestUnknownMembersAreNamed(t *testing.T) {
	value := object()
	if err := value.RefuseUnknown("path", "list", "n"); err != nil {
		t.Error(err)
	}
	if err := value.RefuseUnknown("list"); err == nil || err.Error() != "path: unknown\nn: unknown" {
		t.Errorf("refused with %v", err)
	}
}

type loud struct{}

func (loud) Error() string { panic("again") }

func TestEveryPanicHasAText(t *testing.T) {
	for want, cause := range map[string]any{"panic: asked to": "asked to", "panic: broken": errors.New("broken"), "panic: 7": 7} {
		if text := panicText(cause); text != want {
			t.Errorf("%q, not %q", text, want)
		}
	}
	if text := panicText(loud{}); text == "" {
		t.Error("no text")
	}
}

func TestAProfileThatNobodyHoldsIsNotTouched(t *testing.T) {
	profile := &Profile{host: &Host{ended: true}}
	profile.holders.Store(1)
	profile.Retain()
	profile.Release()
	profile.Release()
	for name, use := range map[string]func(){"Sequence": func() { profile.Sequence() }, "Retain": profile.Retain, "Release": profile.Release} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s does not panic", name)
				}
			}()
			use()
		}()
	}
}

func TestADeliveryCountsItsFirstOutcome(t *testing.T) {
	delivery := &Delivery{instance: &instance{host: &Host{ended: true}, open: map[*Delivery]struct{}{}}}
	delivery.instance.open[delivery] = struct{}{}
	func() {
		defer delivery.Recover()
		panic("in a goroutine")
	}()
	delivery.Finish(Delivered())
	if !delivery.IsOver() || len(delivery.instance.open) != 0 {
		t.Error("it is still open")
	}
}
