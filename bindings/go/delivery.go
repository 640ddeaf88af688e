package gateway

/*
#include "bridge.h"
*/
import "C"

import (
	"math"
	"sync/atomic"
	"time"
	"unsafe"
)

// Outcome tells how a delivery ended: Delivered, Retry, Rejected or Aborted make one, and its fields say more.
type Outcome struct {
	status C.uint32_t
	// Reason is for people.
	Reason string
	// After is the least delay of the next attempt, with Retry; zero leaves it to the gateway.
	After time.Duration
	// Progress is handed back at the next attempt, with Retry: say, a bit for each endpoint that has the profile.
	Progress uint64
	// HTTPStatus is the destination's own status, where it speaks HTTP.
	HTTPStatus int
	// SenderMessage is the destination's word to the sender, with Rejected, without secrets.
	SenderMessage string
}

// Delivered: stored or accepted by the destination.
func Delivered() Outcome { return Outcome{status: C.GW_STATUS_DELIVERED} }

// Retry: the attempt failed for now; the gateway delivers the profile again.
func Retry(reason string) Outcome { return Outcome{status: C.GW_STATUS_RETRY, Reason: reason} }

// Rejected: this profile will never be taken.
func Rejected(reason string) Outcome { return Outcome{status: C.GW_STATUS_REJECTED, Reason: reason} }

// Aborted: given up because of Abort.
func Aborted() Outcome { return Outcome{status: C.GW_STATUS_ABORTED} }

// Delivery is one attempt to hand a profile over, or one flush. It may be kept and finished later, from any goroutine. Each must be finished:
// nothing else ends one that is forgotten, until the gateway calls it overdue.
type Delivery struct {
	instance *instance
	token    unsafe.Pointer
	profile  *Profile
	attempt  int
	progress uint64
	reported atomic.Bool
	closed   atomic.Bool
}

// Attempt is the number of the attempt, 1 for the first; 0 for a flush.
func (delivery *Delivery) Attempt() int { return delivery.attempt }

// Progress is what the last attempt left in Outcome.Progress; 0 at first, or after a change of plugin or config.
func (delivery *Delivery) Progress() uint64 { return delivery.progress }

// IsOver tells whether it is finished, by the sink or by an abort, so that its work can stop.
func (delivery *Delivery) IsOver() bool { return delivery.reported.Load() }

// Finish reports the outcome. The first one counts: a second, and one after an abort, changes nothing. Afterwards the profile may be used only
// as long as it is retained.
func (delivery *Delivery) Finish(outcome Outcome) {
	delivery.report(outcome)
	if !delivery.closed.Swap(true) && delivery.profile != nil {
		delivery.profile.Release()
	}
}

// Recover rejects the profile with the text of a panic: "defer delivery.Recover()" at the beginning of a goroutine.
func (delivery *Delivery) Recover() {
	if cause := recover(); cause != nil {
		text := panicText(cause)
		delivery.instance.host.Log(LevelError, text)
		delivery.Finish(Rejected(text))
	}
}

func (delivery *Delivery) report(outcome Outcome) {
	if delivery.reported.Swap(true) {
		return
	}
	self := delivery.instance
	self.mu.Lock()
	delete(self.open, delivery)
	self.mu.Unlock()
	after := max(0, int64(outcome.After))
	http := min(max(0, int64(outcome.HTTPStatus)), math.MaxUint32)
	self.host.with(func(raw *C.gwgo_instance) {
		C.gwgo_finish(raw.host, delivery.token, outcome.status, C.uint64_t(after), C.uint64_t(outcome.Progress), C.uint32_t(http),
			pointer(outcome.Reason), C.size_t(len(outcome.Reason)), pointer(outcome.SenderMessage), C.size_t(len(outcome.SenderMessage)))
	})
}

// pointer gives the bytes of a string to C for the time of a call.
func pointer(text string) *C.char { return (*C.char)(unsafe.Pointer(unsafe.StringData(text))) }
