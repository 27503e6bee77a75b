package main

import (
	"strconv"
	"time"

	"github.com/gomodule/redigo/redis"
)

// redigoClient is a pool as redigo's documentation shows it: a connection that was idle is asked first.
type redigoClient struct{ pool *redis.Pool }

func openRedigo(endpoint string) client {
	return redigoClient{&redis.Pool{
		MaxIdle: 3,
		Dial:    func() (redis.Conn, error) { return redis.Dial("tcp", addr(endpoint)) },
		TestOnBorrow: func(c redis.Conn, idleSince time.Time) error {
			if time.Since(idleSince) < 100*time.Millisecond {
				return nil
			}
			_, err := c.Do("PING")
			return err
		},
	}}
}

func (x redigoClient) do(name string, args ...any) (any, error) {
	c := x.pool.Get()
	defer c.Close()
	return c.Do(name, args...)
}

func (x redigoClient) set(key, value string) error {
	_, err := x.do("SET", key, value)
	return err
}

func (x redigoClient) get(key string) (string, error) {
	v, err := redis.String(x.do("GET", key))
	if isNil(err) {
		err = nil
	}
	return v, err
}

func (x redigoClient) seen(key string) (string, error) { return x.get(key) }

func (x redigoClient) incr(key string) error {
	_, err := x.do("INCR", key)
	return err
}

func (x redigoClient) push(key, value string) error {
	_, err := x.do("LPUSH", key, value)
	return err
}

func (x redigoClient) pop(key string) (string, error) {
	both, err := redis.Strings(x.do("BRPOP", key, 1))
	if isNil(err) || err == nil && len(both) < 2 {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return both[1], nil
}

func (x redigoClient) both(n string) error {
	c := x.pool.Get()
	defer c.Close()
	_ = c.Send("MULTI") // an error of these shows in EXEC's
	_ = c.Send("SET", key+":both", n)
	_ = c.Send("SADD", key+":seen", n)
	_, err := redis.Values(c.Do("EXEC"))
	return err
}

func (x redigoClient) many(n string) (string, error) {
	c := x.pool.Get()
	defer c.Close()
	for i := range 5 {
		_ = c.Send("SET", key+":many:"+strconv.Itoa(i), n) // as above: Do("") tells
		_ = c.Send("GET", key+":many:"+strconv.Itoa(i))
	}
	replies, err := redis.Values(c.Do(""))
	if err != nil {
		return "", err
	}
	return redis.String(replies[9], nil)
}

func (x redigoClient) members(key string) ([]string, error) {
	return redis.Strings(x.do("SMEMBERS", key))
}
func (x redigoClient) list(key string) ([]string, error) {
	return redis.Strings(x.do("LRANGE", key, 0, -1))
}

func (x redigoClient) publish(channel, message string) error {
	_, err := x.do("PUBLISH", channel, message)
	return err
}

// subscribe asks again on a new connection when its own was lost: redigo leaves that to its users.
func (x redigoClient) subscribe(channel string, hear func(string)) {
	go func() {
		for {
			x.listen(channel, hear)
			time.Sleep(50 * time.Millisecond)
		}
	}()
}

func (x redigoClient) listen(channel string, hear func(string)) {
	s := redis.PubSubConn{Conn: x.pool.Get()}
	defer s.Close()
	if s.Subscribe(channel) != nil {
		return
	}
	for {
		switch m := s.Receive().(type) {
		case redis.Message:
			hear(string(m.Data))
		case error:
			return
		}
	}
}
