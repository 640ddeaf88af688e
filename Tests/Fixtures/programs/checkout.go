// A small shop that profiles itself: two endpoints work side by side under pprof labels.
//
// Usage: checkout CPU-PROFILE HEAP-PROFILE
package main

import (
	"context"
	"crypto/sha256"
	"log"
	"os"
	"runtime"
	"runtime/pprof"
	"sort"
	"strconv"
	"strings"
	"sync"
)

type order struct {
	id    int
	price uint32
	note  string
}

// numbers is a fixed pseudo-random sequence, so that each run does the same work.
type numbers uint32

func (n *numbers) next() uint32 {
	*n = *n*1664525 + 1013904223
	return uint32(*n) >> 8
}

var words = strings.Fields("apple bread candle drum engine fabric globe hammer island jacket kettle lamp")

func makeOrders(count int) []order {
	seed := numbers(1)
	orders := make([]order, count)
	for i := range orders {
		note := words[int(seed.next())%len(words)] + " and " + words[int(seed.next())%len(words)]
		orders[i] = order{id: i, price: seed.next() % 10_000, note: note}
	}
	return orders
}

// checkout sorts the orders and signs a receipt for each.
func checkout(orders []order, rounds int) {
	for range rounds {
		sorted := append([]order(nil), orders...)
		sort.Slice(sorted, func(a, b int) bool { return sorted[a].price < sorted[b].price })
		signReceipts(sorted)
	}
}

func signReceipts(orders []order) {
	var last [sha256.Size]byte
	for _, o := range orders {
		last = sha256.Sum256(receipt(o, last))
	}
}

func receipt(o order, previous [sha256.Size]byte) []byte {
	line := append(previous[:], o.note...)
	line = strconv.AppendInt(line, int64(o.id), 10)
	return strconv.AppendUint(line, uint64(o.price), 10)
}

// search indexes the orders' notes by word, then ranks the words.
func search(orders []order, rounds int) {
	for range rounds {
		rank(index(orders))
	}
}

func index(orders []order) map[string][]int {
	byWord := map[string][]int{}
	for _, o := range orders {
		for _, word := range strings.Fields(o.note) {
			byWord[word] = append(byWord[word], o.id)
		}
	}
	return byWord
}

func rank(byWord map[string][]int) []string {
	found := make([]string, 0, len(byWord))
	for word := range byWord {
		found = append(found, word)
	}
	sort.Slice(found, func(a, b int) bool { return len(byWord[found[a]]) > len(byWord[found[b]]) })
	return found
}

func serveBoth(orders []order) {
	var done sync.WaitGroup
	serve := func(endpoint string, work func()) {
		labels := pprof.Labels("endpoint", endpoint, "region", "north")
		done.Go(func() { pprof.Do(context.Background(), labels, func(context.Context) { work() }) })
	}
	serve("/checkout", func() { checkout(orders, 45) })
	serve("/search", func() { search(orders, 75) })
	done.Wait()
}

func create(path string) *os.File {
	file, err := os.Create(path)
	check(err)
	return file
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	orders := makeOrders(50_000)

	cpu := create(os.Args[1])
	check(pprof.StartCPUProfile(cpu))
	serveBoth(orders)
	pprof.StopCPUProfile()
	check(cpu.Close())

	catalogue := index(orders)
	runtime.GC() // the heap profile shows what was live at the last collection
	heap := create(os.Args[2])
	check(pprof.Lookup("heap").WriteTo(heap, 0))
	check(heap.Close())
	runtime.KeepAlive(catalogue)
	runtime.KeepAlive(orders)
}
