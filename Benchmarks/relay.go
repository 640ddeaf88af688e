// A relay as one would write it with net/http: it reads a request's body, posts it to every destination over keep-alive connections, and answers 200
// when all of them have answered 200, otherwise 502.
// Usage: relay PORT DESTINATION_PORT...
package main

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"time"
)

// What a request and an answer say about one connection and not about the message.
var hopByHop = []string{"Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

type relay struct {
	client       *http.Client
	destinations []string
}

func (r *relay) ServeHTTP(writer http.ResponseWriter, request *http.Request) {
	body, err := readAll(request)
	if err != nil {
		http.Error(writer, err.Error(), http.StatusBadRequest)
		return
	}
	results := make(chan error, len(r.destinations))
	for _, destination := range r.destinations {
		go func() { results <- r.post(destination, request, body) }()
	}
	for range r.destinations {
		if failed := <-results; failed != nil {
			err = failed
		}
	}
	if err != nil {
		http.Error(writer, err.Error(), http.StatusBadGateway)
	}
}

// readAll takes the memory for a body of known length at once.
func readAll(request *http.Request) ([]byte, error) {
	if request.ContentLength < 0 {
		return io.ReadAll(request.Body)
	}
	body := make([]byte, request.ContentLength)
	_, err := io.ReadFull(request.Body, body)
	return body, err
}

func (r *relay) post(destination string, request *http.Request, body []byte) error {
	onward, err := http.NewRequestWithContext(request.Context(), request.Method, destination+request.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	onward.Header = request.Header.Clone()
	for _, name := range hopByHop {
		onward.Header.Del(name)
	}
	answer, err := r.client.Do(onward)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err = io.Copy(io.Discard, answer.Body); err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answered %d", destination, answer.StatusCode)
	}
	return err
}

func main() {
	if len(os.Args) < 3 {
		log.Fatal("usage: relay PORT DESTINATION_PORT...")
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 4096, IdleConnTimeout: time.Minute, DisableCompression: true}
	handler := &relay{client: &http.Client{Transport: transport}}
	for _, port := range os.Args[2:] {
		handler.destinations = append(handler.destinations, "http://127.0.0.1:"+port)
	}
	log.Fatal((&http.Server{Addr: "127.0.0.1:" + os.Args[1], Handler: handler}).ListenAndServe())
}
