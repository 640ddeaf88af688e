package gateway

/*
#include "bridge.h"
*/
import "C"

import (
	"sync/atomic"
	"unsafe"
)

// Profile is one received profile, which never changes.
//
// It may be used until its delivery is finished, and from any goroutine. Who needs it longer calls Retain before, and Release once for it. Its
// strings are copies; the bytes of a sample are the gateway's own, and valid as long as the profile: bytes.Clone what is to stay.
type Profile struct {
	host    *Host
	raw     *C.gw_profile
	holders atomic.Int64
}

// API is the way that a profile came in by.
type API int

const (
	Ingest API = iota // /ingest
	Push              // push.v1 Push
)

// Label is a label, or a header of the request.
type Label struct{ Name, Value string }

// Sample is one payload. /ingest gives exactly one, with an empty ID; a Push one for each of its samples.
type Sample struct {
	ID    string
	Bytes []byte
}

// Retain keeps the profile past its delivery; one Release for each.
func (profile *Profile) Retain() {
	profile.get()
	profile.holders.Add(1)
}

// Release gives the profile back. The last one ends it.
func (profile *Profile) Release() {
	switch left := profile.holders.Add(-1); {
	case left == 0:
		profile.host.with(func(raw *C.gwgo_instance) { C.gwgo_release(raw.host, profile.raw) })
	case left < 0:
		panic("gateway: a profile was released more often than retained")
	}
}

// get is the profile of C, for as long as somebody holds it.
func (profile *Profile) get() *C.gw_profile {
	if profile.holders.Load() <= 0 {
		panic("gateway: a profile was used after its delivery was finished, without Retain")
	}
	return profile.raw
}

func text(slice C.gw_slice) string { return string(view(slice)) }

func view(slice C.gw_slice) []byte {
	if slice.count == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(slice.bytes), int(slice.count))
}

// Sequence is unique and rising, with gaps; the same on every attempt, also after a restart: it tells duplicates.
func (profile *Profile) Sequence() uint64 { return uint64(profile.get().sequence) }

// API is the way it came in by.
func (profile *Profile) API() API { return API(profile.get().api) }

// ReceivedNS is when it was received, in Unix nanoseconds.
func (profile *Profile) ReceivedNS() int64 { return int64(profile.get().received_ns) }

// FromNS is when its time begins, in Unix nanoseconds; 0 when the sender did not say.
func (profile *Profile) FromNS() int64 { return int64(profile.get().from_ns) }

// UntilNS is when its time ends, in Unix nanoseconds; 0 when the sender did not say.
func (profile *Profile) UntilNS() int64 { return int64(profile.get().until_ns) }

// Tenant is X-Scope-OrgID, as the listener maps it; empty when there is none.
func (profile *Profile) Tenant() string { return text(profile.get().tenant) }

// Path is the request's path.
func (profile *Profile) Path() string { return text(profile.get().path) }

// Query is the request's query string, with its percent-encoding.
func (profile *Profile) Query() string { return text(profile.get().query) }

// Format is "pprof", "jfr", "folded" and so on.
func (profile *Profile) Format() string { return text(profile.get().format) }

// ContentType is the request's Content-Type.
func (profile *Profile) ContentType() string { return text(profile.get().content_type) }

// ContentEncoding is the request's Content-Encoding.
func (profile *Profile) ContentEncoding() string { return text(profile.get().content_encoding) }

// Peer is the sender's IP address; empty when it is not known, or from a gateway that does not tell.
func (profile *Profile) Peer() string { return text(C.gwgo_peer(profile.get())) }

// Labels are sorted by name, with __name__ and service_name.
func (profile *Profile) Labels() []Label {
	return labels(profile.get().labels, profile.get().label_count)
}

// Headers are further headers of the request that the listener keeps, names in lower case.
func (profile *Profile) Headers() []Label {
	return labels(profile.get().headers, profile.get().header_count)
}

// Label is the value of a label; empty when there is none.
func (profile *Profile) Label(name string) string {
	for _, label := range unsafe.Slice((*C.gw_label)(profile.get().labels), int(profile.get().label_count)) {
		if string(view(label.name)) == name {
			return text(label.value)
		}
	}
	return ""
}

// Samples are the payloads, exactly the bytes received; the bytes are valid as long as the profile.
func (profile *Profile) Samples() []Sample {
	raw := unsafe.Slice((*C.gw_sample)(profile.get().samples), int(profile.get().sample_count))
	all := make([]Sample, len(raw))
	for index, sample := range raw {
		all[index] = Sample{ID: text(sample.id), Bytes: view(sample.bytes)}
	}
	return all
}

// ByteCount is how many bytes all payloads have.
func (profile *Profile) ByteCount() int {
	count := 0
	for _, sample := range unsafe.Slice((*C.gw_sample)(profile.get().samples), int(profile.get().sample_count)) {
		count += int(sample.bytes.count)
	}
	return count
}

func labels(first *C.gw_label, count C.size_t) []Label {
	raw := unsafe.Slice((*C.gw_label)(first), int(count))
	all := make([]Label, len(raw))
	for index, label := range raw {
		all[index] = Label{Name: text(label.name), Value: text(label.value)}
	}
	return all
}
