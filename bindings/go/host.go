package gateway

/*
#include <stdlib.h>
#include "bridge.h"
*/
import "C"

import (
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"
)

// Host is what the gateway lends one instance; from any goroutine. After the instance has ended it does nothing.
type Host struct {
	// Held for reading during each call, so that the end of the instance waits for them.
	mu       sync.RWMutex
	raw      *C.gwgo_instance
	ended    bool
	creating bool
}

// with calls the gateway, unless the instance has ended.
func (host *Host) with(body func(raw *C.gwgo_instance)) bool {
	host.mu.RLock()
	defer host.mu.RUnlock()
	if host.ended {
		return false
	}
	body(host.raw)
	return true
}

func (host *Host) end() {
	host.mu.Lock()
	defer host.mu.Unlock()
	host.ended = true
}

// Level is how much a line of the log matters.
type Level uint32

const (
	LevelDebug Level = iota
	LevelInfo
	LevelWarning
	LevelError
)

// Health is how an instance is.
type Health uint32

const (
	HealthOK       Health = iota // a delivery has succeeded
	HealthDegraded               // deliveries are slow or partial
	HealthFailed                 // deliveries cannot succeed without a person
)

// Kind is what a metric counts.
type Kind uint32

const (
	Counter Kind = iota // a number that only rises
	Gauge               // a number that is set
	Seconds             // a histogram of durations, observed in nanoseconds
)

// Log writes one line to the gateway's log, tagged with the receiver: no newline, time or name in it.
func (host *Host) Log(level Level, message string) {
	host.with(func(raw *C.gwgo_instance) {
		C.gwgo_log(raw.host, C.uint32_t(level), pointer(message), C.size_t(len(message)))
	})
}

// SetHealth states the instance's health, replacing the last statement; the gateway never asks.
func (host *Host) SetHealth(health Health, reason string) {
	host.with(func(raw *C.gwgo_instance) {
		C.gwgo_set_health(raw.host, C.uint32_t(health), pointer(reason), C.size_t(len(reason)))
	})
}

// Metric is a counter, gauge or histogram of the gateway; from any goroutine.
type Metric struct {
	host *Host
	id   C.uint32_t
}

// Metric declares a metric; the same name and labels give the same one. The name begins with the plugin's name, other characters as "_". The
// gateway adds the label "receiver".
func (host *Host) Metric(kind Kind, name, help string, labels ...Label) Metric {
	var texts strings.Builder
	counts := make([]C.size_t, 0, 2*len(labels)+1)
	for _, label := range labels {
		texts.WriteString(label.Name)
		texts.WriteString(label.Value)
		counts = append(counts, C.size_t(len(label.Name)), C.size_t(len(label.Value)))
	}
	all := texts.String()
	metric := Metric{host: host}
	host.with(func(raw *C.gwgo_instance) {
		metric.id = C.gwgo_metric(raw.host, C.uint32_t(kind), pointer(name), C.size_t(len(name)), pointer(help), C.size_t(len(help)),
			pointer(all), unsafe.SliceData(counts), C.size_t(len(labels)))
	})
	return metric
}

// Observe adds to a counter, sets a gauge, or observes a duration in nanoseconds.
func (metric Metric) Observe(value int64) {
	metric.host.with(func(raw *C.gwgo_instance) { C.gwgo_observe(raw.host, metric.id, C.int64_t(value)) })
}

// extension gives a further service of the gateway to body, when it has it in this size.
func (host *Host) extension(id string, size uintptr, body func(raw *C.gwgo_instance, found unsafe.Pointer)) bool {
	name := C.CString(id)
	defer C.free(unsafe.Pointer(name))
	has := false
	host.with(func(raw *C.gwgo_instance) {
		if found := C.gwgo_extension(raw.host, name, C.size_t(size)); found != nil {
			has = true
			body(raw, unsafe.Pointer(found))
		}
	})
	return has
}

// Instance is what the gateway knows of an instance.
type Instance struct {
	// Receiver is its name in the config.
	Receiver, GatewayVersion string
	// Directory is a folder of the receiver's own below data_dir, made when it is asked for; empty without data_dir.
	Directory string
	// MaxInFlight is how many deliveries may be open, at the time of New; a reload may change it.
	MaxInFlight int
	// DeliveryTimeout is when a delivery is overdue.
	DeliveryTimeout time.Duration
}

// Instance tells what the gateway knows of the instance; false from a gateway that does not tell.
func (host *Host) Instance() (instance Instance, has bool) {
	has = host.extension(C.GW_INSTANCE_EXTENSION, unsafe.Sizeof(C.gw_instance{}), func(_ *C.gwgo_instance, found unsafe.Pointer) {
		facts := (*C.gw_instance)(found)
		instance = Instance{
			Receiver: text(facts.receiver), GatewayVersion: text(facts.gateway_version), Directory: text(facts.directory),
			MaxInFlight: int(facts.max_in_flight), DeliveryTimeout: time.Duration(facts.delivery_timeout_ns),
		}
	})
	return instance, has
}

// Descriptors tells how many descriptors the instance may hold open now, at least 1; 0 from a gateway that does not divide them. A reload
// changes it.
func (host *Host) Descriptors() (share int) {
	host.extension(C.GW_DESCRIPTORS_EXTENSION, unsafe.Sizeof(C.gw_descriptors{}), func(raw *C.gwgo_instance, found unsafe.Pointer) {
		share = int(C.gwgo_descriptors(raw.host, (*C.gw_descriptors)(found)))
	})
	return share
}

// Environment lists, during New, the paths of the config's strings that were one ${NAME} each, and count as the number or boolean that they
// spell.
func (host *Host) Environment() (paths []string) {
	host.extension(C.GW_ENVIRONMENT_EXTENSION, 0, func(_ *C.gwgo_instance, found unsafe.Pointer) {
		if host.creating {
			paths = strings.FieldsFunc(C.GoString((*C.char)(found)), func(r rune) bool { return r == '\n' })
		}
	})
	return paths
}

// SetTimer lets the sink's Timer be called once, after a delay, from the instance's own thread; TimerOff takes that back. There are the timers
// 0 to 7. Returns whether it is set: a gateway older than gw.timer/1 has no timers.
func (host *Host) SetTimer(number int, delay time.Duration) bool {
	code := C.int32_t(1)
	ns := C.uint64_t(C.GW_TIMER_OFF)
	if delay != TimerOff {
		ns = C.uint64_t(max(0, delay))
	}
	if number < 0 || number >= C.GW_TIMERS {
		return false
	}
	host.extension(C.GW_TIMER_EXTENSION, unsafe.Sizeof(C.gw_timer{}), func(raw *C.gwgo_instance, found unsafe.Pointer) {
		code = C.gwgo_set_timer(raw, (*C.gw_timer)(found), C.uint32_t(number), ns)
	})
	return code == 0
}

// TimerOff is the delay that takes a timer back.
const TimerOff time.Duration = -1

// JSONKind is what a JSON value is.
type JSONKind uint32

const (
	Null JSONKind = iota
	Boolean
	Number
	String
	Array
	Object
)

// Value is one value of a JSON text.
type Value struct {
	Kind JSONKind
	// Name is a member's name; empty for what is no member.
	Name string
	// Text is a string without its escapes, or a number as it is written.
	Text string
	// Number is a number, as far as a float64 can tell; 1 for true.
	Number float64
	// Children are the elements of an array or the members of an object, in the order of the text.
	Children []Value
}

// ParseJSON reads a JSON text with the gateway's own strict reader; the error says where it is wrong.
func (host *Host) ParseJSON(json []byte) (Value, error) {
	var value Value
	err := errors.New("this gateway is too old: it lends no reader of JSON (gw.json/1)")
	source := string(json)
	host.extension(C.GW_JSON_EXTENSION, unsafe.Sizeof(C.gw_json{}), func(_ *C.gwgo_instance, found unsafe.Pointer) {
		var room [4096]byte
		var count C.size_t
		reader := (*C.gw_json)(found)
		first := C.gwgo_parse(reader, pointer(source), C.size_t(len(source)), (*C.char)(unsafe.Pointer(&room[0])), C.size_t(len(room)), &count)
		if first == nil {
			err = errors.New(string(room[:count]))
			return
		}
		value, err = read(first), nil
		C.gwgo_release_json(reader, first)
	})
	return value, err
}

// read copies a value with all that is in it.
func read(raw *C.gw_json_value) Value {
	value := Value{Kind: JSONKind(raw.kind), Name: text(raw.name), Text: text(raw.text), Number: float64(raw.number)}
	all := unsafe.Slice(raw, int(raw.span))
	for next := 1; next < len(all); next += int(all[next].span) {
		value.Children = append(value.Children, read(&all[next]))
	}
	return value
}

// Member is the member of an object with that name; nil when there is none.
func (value *Value) Member(name string) *Value {
	if value == nil || value.Kind != Object {
		return nil
	}
	for index := range value.Children {
		if value.Children[index].Name == name {
			return &value.Children[index]
		}
	}
	return nil
}

// AsString is the text of a string.
func (value *Value) AsString() (string, bool) {
	if value == nil || value.Kind != String {
		return "", false
	}
	return value.Text, true
}

// AsUint is a whole number that is not negative and was written as digits alone.
func (value *Value) AsUint() (uint64, bool) {
	if value == nil || value.Kind != Number {
		return 0, false
	}
	number, err := strconv.ParseUint(value.Text, 10, 64)
	return number, err == nil
}

// AsBool is whether a boolean is true.
func (value *Value) AsBool() (is bool, isBoolean bool) {
	if value == nil || value.Kind != Boolean {
		return false, false
	}
	return value.Number == 1, true
}

// RefuseUnknown refuses the members of an object that have none of these names: a problem a line.
func (value *Value) RefuseUnknown(names ...string) error {
	var problems []string
	if value == nil || value.Kind != Object {
		return nil
	}
next:
	for _, child := range value.Children {
		for _, name := range names {
			if child.Name == name {
				continue next
			}
		}
		problems = append(problems, child.Name+": unknown")
	}
	if problems == nil {
		return nil
	}
	return errors.New(strings.Join(problems, "\n"))
}
