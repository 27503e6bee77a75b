// Command clients runs a Go client of Redis through a group's changes as an application uses it:
// clients go-redis | rueidis | redigo | asynq.
package main

import (
	"fmt"
	"os"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: clients go-redis | rueidis | redigo | asynq")
		os.Exit(2)
	}
	switch os.Args[1] {
	case "go-redis":
		plain(newRecord("github.com/redis/go-redis/v9"), openGoRedis)
	case "rueidis":
		plain(newRecord("github.com/redis/rueidis"), openRueidis)
	case "redigo":
		plain(newRecord("github.com/gomodule/redigo"), openRedigo)
	case "asynq":
		runAsynq(newRecord("github.com/hibiken/asynq", "github.com/redis/go-redis/v9"))
	case "asynq-worker":
		workAsynq()
	default:
		fmt.Fprintf(os.Stderr, "clients: nobody knows %q\n", os.Args[1])
		os.Exit(2)
	}
}
