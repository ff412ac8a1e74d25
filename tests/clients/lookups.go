// Looks names up by Go's own resolver and prints for each: name, microseconds, addresses.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"time"
)

func main() {
	resolver := net.Resolver{PreferGo: true}
	for _, name := range os.Args[1:] {
		start := time.Now()
		addresses, err := resolver.LookupIPAddr(context.Background(), name)
		fmt.Print(name, " ", time.Since(start).Microseconds())
		if err != nil {
			fmt.Print(" ", err)
		}
		for _, address := range addresses {
			fmt.Print(" ", address.String())
		}
		fmt.Println()
	}
}
