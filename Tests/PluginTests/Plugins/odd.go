// A plugin in Go that does what its config says, for Tests/System/languages: {"deed":"panic"}. odd.rs is the same in Rust.
package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"plugin.local/odd/gateway"
)

func init() { gateway.Export("odd", "1.0.0", newOdd, gateway.WithProbe()) }
func main() {}

type odd struct {
	host *gateway.Host
	deed string
	kept []*gateway.Profile
	open []*gateway.Delivery
}

func newOdd(config []byte, host *gateway.Host) (gateway.Sink, error) {
	json, err := host.ParseJSON(config)
	if err != nil {
		return nil, err
	}
	if err := json.RefuseUnknown("deed"); err != nil {
		return nil, err
	}
	deed, ok := json.Member("deed").AsString()
	if !ok {
		return nil, errors.New("deed: must be a string")
	}
	if deed == "panic in new" {
		panic(fmt.Sprint("no ", 1, " instance"))
	}
	facts, ok := host.Instance()
	if !ok {
		return nil, errors.New("no facts")
	}
	host.Log(gateway.LevelInfo, fmt.Sprintf("facts receiver=%s directory=%t", facts.Receiver, facts.Directory != ""))
	return &odd{host: host, deed: deed}, nil
}

func (self *odd) Start() error {
	if self.deed == "panic in start" {
		panic("no start")
	}
	return nil
}

func (self *odd) Probe() error {
	if self.deed == "away" {
		return errors.New("nobody is there")
	}
	return nil
}

func (self *odd) Deliver(profile *gateway.Profile, delivery *gateway.Delivery) {
	switch self.deed {
	case "panic":
		var none *odd
		none.deed = "a nil pointer"
	case "panic in a thread":
		go func() {
			defer delivery.Recover()
			panic("elsewhere")
		}()
	case "thread":
		go func() {
			if len(profile.Samples()) == 1 {
				delivery.Finish(gateway.Delivered())
			}
			// A second outcome changes nothing.
			delivery.Finish(gateway.Rejected("twice"))
		}()
	case "timer":
		self.open = append(self.open, delivery)
		if !self.host.SetTimer(7, 20*time.Millisecond) {
			panic("no timer")
		}
	case "hold":
		self.open = append(self.open, delivery)
	case "retain":
		// Told with the next profile, when this one's delivery is long finished.
		for _, kept := range self.kept {
			var texts []string
			for _, sample := range kept.Samples() {
				texts = append(texts, strings.TrimSpace(string(sample.Bytes)))
			}
			self.host.Log(gateway.LevelInfo, fmt.Sprintf("kept %s of %s", strings.Join(texts, ","), kept.Label("service_name")))
			kept.Release()
		}
		profile.Retain()
		self.kept = []*gateway.Profile{profile}
		delivery.Finish(gateway.Delivered())
	case "use too late":
		delivery.Finish(gateway.Delivered())
		profile.Sequence()
	default:
		outcome := gateway.Rejected("no such deed")
		outcome.HTTPStatus = 418
		delivery.Finish(outcome)
	}
}

func (self *odd) Timer(number int) {
	self.host.Log(gateway.LevelInfo, fmt.Sprint("timer ", number))
	for _, delivery := range self.open {
		delivery.Finish(gateway.Delivered())
	}
	self.open = nil
}

func (self *odd) Abort() { self.host.Log(gateway.LevelInfo, "abort") }

func (self *odd) Close() {
	for _, delivery := range self.open {
		// After an abort this gives the profile back, and nothing more.
		delivery.Finish(gateway.Delivered())
	}
	for _, kept := range self.kept {
		kept.Release()
	}
	self.host.Log(gateway.LevelInfo, "the end")
}
