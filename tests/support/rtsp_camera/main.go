// An IP camera for the tests: it shows the JPEGs of a folder, one after the other, to whom knows its password.
//
//	CAMERA_USERNAME=... CAMERA_PASSWORD=... rtsp_camera 127.0.0.1:8554 folder 25
package main

import (
	"log"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/bluenviron/gortsplib/v5"
	"github.com/bluenviron/gortsplib/v5/pkg/base"
	"github.com/bluenviron/gortsplib/v5/pkg/description"
	"github.com/bluenviron/gortsplib/v5/pkg/format"
	"github.com/bluenviron/gortsplib/v5/pkg/liberrors"
)

const path = "stream"

// RTP counts a picture's time in this many parts of a second.
const clockRate = 90_000

type camera struct {
	stream             atomic.Pointer[gortsplib.ServerStream]
	username, password string
}

func (c *camera) admit(conn *gortsplib.ServerConn, request *base.Request, asked string) (
	*base.Response, *gortsplib.ServerStream, error,
) {
	if c.password != "" && !conn.VerifyCredentials(request, c.username, c.password) {
		return &base.Response{StatusCode: base.StatusUnauthorized}, nil, liberrors.ErrServerAuth{}
	}
	stream := c.stream.Load()
	if strings.Trim(asked, "/") != path || stream == nil {
		return &base.Response{StatusCode: base.StatusNotFound}, nil, nil
	}
	return &base.Response{StatusCode: base.StatusOK}, stream, nil
}

func (c *camera) OnDescribe(ctx *gortsplib.ServerHandlerOnDescribeCtx) (
	*base.Response, *gortsplib.ServerStream, error,
) {
	return c.admit(ctx.Conn, ctx.Request, ctx.Path)
}

func (c *camera) OnSetup(ctx *gortsplib.ServerHandlerOnSetupCtx) (
	*base.Response, *gortsplib.ServerStream, error,
) {
	return c.admit(ctx.Conn, ctx.Request, ctx.Path)
}

func (c *camera) OnPlay(*gortsplib.ServerHandlerOnPlayCtx) (*base.Response, error) {
	return &base.Response{StatusCode: base.StatusOK}, nil
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func main() {
	address, folder, rate := os.Args[1], os.Args[2], must(strconv.Atoi(os.Args[3]))
	names := must(filepath.Glob(filepath.Join(folder, "*.jpg")))
	if len(names) == 0 {
		log.Fatal("no JPEG in ", folder)
	}
	var pictures [][]byte
	for _, name := range names {
		pictures = append(pictures, must(os.ReadFile(name)))
	}

	handler := &camera{username: os.Getenv("CAMERA_USERNAME"), password: os.Getenv("CAMERA_PASSWORD")}
	server := &gortsplib.Server{Handler: handler, RTSPAddress: address}
	if err := server.Start(); err != nil {
		log.Fatal(err)
	}
	mjpeg := &format.MJPEG{}
	media := &description.Media{Type: description.MediaTypeVideo, Formats: []format.Format{mjpeg}}
	stream := &gortsplib.ServerStream{
		Server: server,
		Desc:   &description.Session{Medias: []*description.Media{media}},
	}
	if err := stream.Initialize(); err != nil {
		log.Fatal(err)
	}
	handler.stream.Store(stream)

	encoder := must(mjpeg.CreateEncoder())
	started := time.Now()
	for number := 0; ; number++ {
		for _, packet := range must(encoder.Encode(pictures[number%len(pictures)])) {
			packet.Timestamp = uint32(number * clockRate / rate)
			if err := stream.WritePacketRTP(media, packet); err != nil {
				log.Fatal(err)
			}
		}
		time.Sleep(time.Until(started.Add(time.Duration(number+1) * time.Second / time.Duration(rate))))
	}
}
