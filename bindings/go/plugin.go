// Package gateway makes a Go type a receiver plugin of Profile Gateway.
//
// Implement [Sink], name it in an init function of package main, and build with -buildmode=c-shared:
//
//	func init() { gateway.Export("my-sink", "1.0.0", newSink) }
//	func main() {}
//
// All calls but Abort come from one thread, one after another, and may block: this receiver alone waits. A panic leaves no call: New
// refuses with its text, Start fails with it, and Deliver's profile is rejected with it. A panic of a goroutine of the plugin ends the process,
// as always in Go; "defer delivery.Recover()" at its beginning rejects the profile instead.
//
// What a Go plugin cannot help:
//
//   - The runtime's threads begin when the library is loaded and never end, and it handles SIGSEGV, SIGBUS, SIGFPE and SIGURG. The bindings
//     leave SIGPIPE ignored. Do not use os/signal, os.Exit, log.Fatal, os.Chdir, os.Setenv.
//   - Two Go plugins in one process are two runtimes. Run each in a process of its own: "isolation": "process".
//   - Memory of the gateway is not the collector's: see [Profile].
package gateway

/*
#cgo CFLAGS: -std=gnu11 -Wall -Wextra -I${SRCDIR}/../sdk -I${SRCDIR}/../../Sources/PluginABI/include
#include "bridge.h"
*/
import "C"

import (
	"fmt"
	"os/signal"
	"runtime/cgo"
	"sync"
	"syscall"
	"unsafe"
)

// Sink is what each plugin implements. The other interfaces of this file are for those who need them.
type Sink interface {
	// Deliver takes one profile. The outcome follows through Finish, now or later, from any goroutine.
	Deliver(profile *Profile, delivery *Delivery)
}

// Starter begins goroutines and connections, or says why it cannot yet; then Start is called again, later and later.
type Starter interface{ Start() error }

// Drainer is told that the end is near: nothing is to wait for more profiles any longer.
type Drainer interface{ Drain() }

// Flusher makes durable what was delivered before, then finishes. Without it a flush is finished at once, which is right for a sink that
// finishes a delivery only once it is durable.
type Flusher interface{ Flush(flush *Delivery) }

// Aborter stops what is at work, from another thread than the other calls, within a second. What is open when it returns is finished as
// aborted for it; Finish is ignored then. It is called again after a call that it came during.
type Aborter interface{ Abort() }

// Timer is called when a timer is due that Host.SetTimer has set.
type Timer interface{ Timer(number int) }

// Closer ends the goroutines and frees what the sink holds; when it returns, none of them may use the host any more.
type Closer interface{ Close() }

// Prober tries whether a delivery could succeed now, without a profile, for "gateway check --connect"; Start was not called.
type Prober interface{ Probe() error }

// New makes a sink from its JSON config, or refuses it: one problem a line, each with its member, "path: must be a string". It starts no
// goroutine and no connection, and changes nothing that another process sees but making directories.
type New func(config []byte, host *Host) (Sink, error)

var exported struct {
	name, version, schema string
	make                  New
	probes                bool
}

// Option is a further fact about a plugin, for Export.
type Option func()

// WithConfigSchema gives a JSON Schema (2020-12) of the config, for people and editors.
func WithConfigSchema(schema string) Option { return func() { exported.schema = schema } }

// WithProbe says that the sinks implement Prober.
func WithProbe() Option { return func() { exported.probes = true } }

// Export makes a sink the plugin of the library. Call it once, from an init function: the gateway asks for the plugin right after those.
func Export(name, version string, make New, options ...Option) {
	if exported.make != nil {
		panic("gateway.Export: a library is one plugin")
	}
	exported.name, exported.version, exported.make = name, version, make
	for _, option := range options {
		option()
	}
}

func init() {
	// The gateway ignores SIGPIPE, and the runtime has taken it.
	signal.Ignore(syscall.SIGPIPE)
}

// instance is what the handle of a gwgo_instance stands for.
type instance struct {
	sink Sink
	host *Host
	mu   sync.Mutex
	open map[*Delivery]struct{}
}

func at(handle C.uintptr_t) *instance { return cgo.Handle(handle).Value().(*instance) }

// begin notes an operation as open.
func (self *instance) begin(token unsafe.Pointer, attempt C.uint32_t, progress C.uint64_t, profile *Profile) *Delivery {
	delivery := &Delivery{instance: self, token: token, profile: profile, attempt: int(attempt), progress: uint64(progress)}
	self.mu.Lock()
	defer self.mu.Unlock()
	self.open[delivery] = struct{}{}
	return delivery
}

// guard runs code of the plugin, and returns the text of its panic.
func (self *instance) guard(body func()) (text string) {
	defer func() {
		if cause := recover(); cause != nil {
			text = panicText(cause)
			self.host.Log(LevelError, text)
		}
	}()
	body()
	return ""
}

func panicText(cause any) (text string) {
	defer func() {
		// The cause may panic itself while it is made a text.
		if recover() != nil {
			text = "panic without a text"
		}
	}()
	return fmt.Sprint("panic: ", cause)
}

func write(text string, target *C.gw_error) {
	room := unsafe.Slice((*byte)(unsafe.Pointer(target.text)), int(target.capacity))
	target.count = C.size_t(copy(room, text))
}

func immortal(text string) C.gw_slice {
	return C.gw_slice{bytes: (*C.uint8_t)(C.CBytes([]byte(text))), count: C.size_t(len(text))}
}

//export gwgoDescribe
func gwgoDescribe(name, version, schema *C.gw_slice, hasProbe *C.uint32_t) C.int {
	if exported.make == nil {
		return 1
	}
	*name, *version, *schema = immortal(exported.name), immortal(exported.version), immortal(exported.schema)
	if exported.probes {
		*hasProbe = 1
	}
	return 0
}

//export gwgoCreate
func gwgoCreate(raw *C.gwgo_instance, config unsafe.Pointer, count C.size_t, target *C.gw_error) C.int {
	self := &instance{host: &Host{raw: raw, creating: true}, open: map[*Delivery]struct{}{}}
	var err error
	text := self.guard(func() {
		// A copy, since the bytes are valid during the call only.
		self.sink, err = exported.make(append([]byte{}, unsafe.Slice((*byte)(config), int(count))...), self.host)
	})
	self.host.mu.Lock()
	self.host.creating = false
	self.host.mu.Unlock()
	if text == "" && err != nil {
		text = err.Error()
	}
	if text == "" && self.sink == nil {
		text = "refused without a reason"
	}
	if text != "" {
		self.host.end()
		write(text, target)
		return 1
	}
	raw.handle = C.uintptr_t(cgo.NewHandle(self))
	return 0
}

//export gwgoDeliver
func gwgoDeliver(handle C.uintptr_t, raw *C.gw_profile, token unsafe.Pointer, attempt C.uint32_t, progress C.uint64_t) {
	self := at(handle)
	profile := &Profile{host: self.host, raw: raw}
	profile.holders.Store(1)
	C.gwgo_retain(self.host.raw.host, raw)
	delivery := self.begin(token, attempt, progress, profile)
	if text := self.guard(func() { self.sink.Deliver(profile, delivery) }); text != "" {
		delivery.Finish(Rejected(text))
	}
}

//export gwgoFlush
func gwgoFlush(handle C.uintptr_t, token unsafe.Pointer) {
	self := at(handle)
	flush := self.begin(token, 0, 0, nil)
	sink, ok := self.sink.(Flusher)
	if !ok {
		flush.Finish(Delivered())
		return
	}
	if text := self.guard(func() { sink.Flush(flush) }); text != "" {
		flush.Finish(Rejected(text))
	}
}

//export gwgoProbe
func gwgoProbe(handle C.uintptr_t, token unsafe.Pointer) {
	self := at(handle)
	probe := self.begin(token, 0, 0, nil)
	err := fmt.Errorf("the sink does not implement Prober")
	text := self.guard(func() {
		if sink, ok := self.sink.(Prober); ok {
			err = sink.Probe()
		}
	})
	if text == "" && err != nil {
		text = err.Error()
	}
	if text != "" {
		probe.Finish(Rejected(text))
		return
	}
	probe.Finish(Delivered())
}

//export gwgoAbort
func gwgoAbort(handle C.uintptr_t) {
	self := at(handle)
	if sink, ok := self.sink.(Aborter); ok {
		self.guard(sink.Abort)
	}
	self.mu.Lock()
	open := make([]*Delivery, 0, len(self.open))
	for delivery := range self.open {
		open = append(open, delivery)
	}
	self.mu.Unlock()
	for _, delivery := range open {
		// The profile stays until the sink itself has finished, because it may be reading it.
		delivery.report(Aborted())
	}
}

//export gwgoDrain
func gwgoDrain(handle C.uintptr_t) {
	self := at(handle)
	if sink, ok := self.sink.(Drainer); ok {
		self.guard(sink.Drain)
	}
}

//export gwgoStart
func gwgoStart(handle C.uintptr_t, target *C.gw_error) C.int32_t {
	self := at(handle)
	sink, ok := self.sink.(Starter)
	if !ok {
		return 0
	}
	var err error
	text := self.guard(func() { err = sink.Start() })
	if text == "" && err == nil {
		return 0
	}
	if text == "" {
		text = err.Error()
	}
	write(text, target)
	return 1
}

//export gwgoTimer
func gwgoTimer(handle C.uintptr_t, number C.uint32_t) {
	self := at(handle)
	if sink, ok := self.sink.(Timer); ok {
		self.guard(func() { sink.Timer(int(number)) })
	}
}

//export gwgoDestroy
func gwgoDestroy(handle C.uintptr_t) {
	self := at(handle)
	if sink, ok := self.sink.(Closer); ok {
		self.guard(sink.Close)
	}
	// A goroutine that goes on against the rule finds no gateway any more.
	self.host.end()
	cgo.Handle(handle).Delete()
}
