package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// serve serves the same at several ports, which differ in the server's options.
func serve() error {
	failed := make(chan error)
	for port, options := range map[int][]grpc.ServerOption{
		9000: nil,
		9001: {grpc.MaxConcurrentStreams(1)},
		9002: {grpc.MaxConcurrentStreams(20)},
		9003: {grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: 300 * time.Millisecond})},
	} {
		options = append(options, grpc.ForceServerCodec(raw{}), grpc.UnknownServiceHandler(handle))
		l, err := net.Listen("tcp", ":"+strconv.Itoa(port))
		if err != nil {
			return err
		}
		go func() { failed <- grpc.NewServer(options...).Serve(l) }()
	}
	return <-failed
}

// endless counts the calls of Sleep, Unread and Flood that go on.
var endless atomic.Int64

func handle(_ any, s grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(s)
	switch method[strings.LastIndex(method, "/")+1:] {
	case "Echo": // any number of messages, each when it comes
		return each(s, func(m []byte) error { return s.SendMsg(&m) })
	case "Sum": // how much came, at the end
		sum := 0
		if err := each(s, func(m []byte) error { sum += len(m); return nil }); err != nil {
			return err
		}
		return send(s, strconv.Itoa(sum))
	case "Count": // as many messages as the request says
		return each(s, func(m []byte) error {
			n, _ := strconv.Atoi(string(m))
			for i := range n {
				if err := send(s, strconv.Itoa(i)); err != nil {
					return err
				}
			}
			return nil
		})
	case "Sleep": // for as long as the request says
		return each(s, func(m []byte) error {
			d, err := time.ParseDuration(string(m))
			if err != nil {
				return status.Error(codes.InvalidArgument, err.Error())
			}
			endless.Add(1)
			defer endless.Add(-1)
			select {
			case <-time.After(d):
				return s.SendMsg(&m)
			case <-s.Context().Done():
				return s.Context().Err()
			}
		})
	case "Endless":
		return send(s, strconv.FormatInt(endless.Load(), 10))
	case "Meta": // the metadata of the request, and some in head and trailers
		in, _ := metadata.FromIncomingContext(s.Context())
		var lines []string
		for key, values := range in {
			lines = append(lines, fmt.Sprintf("%s=%q", key, values))
		}
		slices.Sort(lines)
		if err := s.SetHeader(metadata.Pairs("head-bin", "\x00\x01\xff\r\n", "head", "1", "head", "2")); err != nil {
			return err
		}
		s.SetTrailer(metadata.Pairs("trailer-bin", "\x00\xff", "trailer", "3"))
		return send(s, strings.Join(lines, "\n"))
	case "Fail": // with the code that the request says
		return each(s, func(m []byte) error {
			code, _ := strconv.Atoi(string(m))
			return status.Error(codes.Code(code), "as asked: ü %\n")
		})
	case "FailLate": // after a message
		return each(s, func(m []byte) error {
			if err := s.SendMsg(&m); err != nil {
				return err
			}
			return status.Error(codes.DataLoss, "late")
		})
	case "Unread": // takes nothing of what the client sends
		endless.Add(1)
		defer endless.Add(-1)
		<-s.Context().Done()
		return nil
	case "Flood": // sends without end
		endless.Add(1)
		defer endless.Add(-1)
		m := make([]byte, 1<<16)
		for {
			if err := s.SendMsg(&m); err != nil {
				return err
			}
		}
	}
	return status.Error(codes.Unimplemented, method)
}

// each calls f for each message of a stream, until the client's end.
func each(s grpc.ServerStream, f func([]byte) error) error {
	for {
		var m []byte
		if err := s.RecvMsg(&m); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := f(m); err != nil {
			return err
		}
	}
}

func send(s grpc.ServerStream, text string) error {
	m := []byte(text)
	return s.SendMsg(&m)
}
