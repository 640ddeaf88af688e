// @NAME@: appends a line per profile to the file that the config's member "path" names.
package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"unicode"

	"plugin.local/@NAME@/gateway"
)

const schema = `{"type":"object","properties":{"path":{"type":"string","minLength":1}},"required":["path"],"additionalProperties":false}`

func init() { gateway.Export("@NAME@", "0.1.0", newLineSink, gateway.WithConfigSchema(schema)) }

// A library has no main, but Go wants one.
func main() {}

type lineSink struct{ path string }

func newLineSink(config []byte, host *gateway.Host) (gateway.Sink, error) {
	json, err := host.ParseJSON(config)
	if err != nil {
		return nil, err
	}
	if err := json.RefuseUnknown("path"); err != nil {
		return nil, err
	}
	path, ok := json.Member("path").AsString()
	if !ok || path == "" {
		return nil, errors.New("path: must be a string that names a file")
	}
	return &lineSink{path: path}, nil
}

// Deliver ends each delivery before it returns, so that there is nothing to flush, drain or abort.
func (sink *lineSink) Deliver(profile *gateway.Profile, delivery *gateway.Delivery) {
	if err := sink.add(line(profile)); err != nil {
		delivery.Finish(gateway.Retry(err.Error()))
		return
	}
	delivery.Finish(gateway.Delivered())
}

func (sink *lineSink) add(line string) error {
	file, err := os.OpenFile(sink.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	_, err = file.WriteString(line)
	return errors.Join(err, file.Close())
}

// line has the profile's labels, samples and bytes. Texts come from the sender: a control character would break the line.
func line(profile *gateway.Profile) string {
	var labels strings.Builder
	for _, label := range profile.Labels() {
		fmt.Fprintf(&labels, "%s=%s ", label.Name, label.Value)
	}
	clean := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '?'
		}
		return r
	}, labels.String())
	return fmt.Sprintf("%s%d samples %d bytes\n", clean, len(profile.Samples()), profile.ByteCount())
}
