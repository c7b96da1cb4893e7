package http2

import (
	"slices"

	xhttp2 "golang.org/x/net/http2"
)

// settingsFrame validates, applies and acknowledges SETTINGS (RFC 9113 §6.5).
func (c *receiver) settingsFrame(f *xhttp2.SettingsFrame) error {
	if f.IsAck() {
		c.acked = true
		return nil
	}
	if !c.gotSettings {
		c.gotSettings = true
		c.peer.maxStreams = noLimit // unless this frame sets one (§6.5.2)
	}
	window := c.peer.initialWindow
	for i := range f.NumSettings() {
		s := f.Setting(i)
		switch s.ID {
		case xhttp2.SettingHeaderTableSize:
			c.enc.SetMaxDynamicTableSize(min(s.Val, headerTableSize))
		case xhttp2.SettingEnablePush:
			if s.Val > 1 || s.Val == 1 && c.cfg.Role == Client {
				return connErr(ProtocolError, "invalid SETTINGS_ENABLE_PUSH")
			}
		case xhttp2.SettingMaxConcurrentStreams:
			c.peer.maxStreams = s.Val
		case xhttp2.SettingInitialWindowSize:
			if s.Val > maxWindow {
				return connErr(FlowControlError, "SETTINGS_INITIAL_WINDOW_SIZE over 2^31-1")
			}
			window = int64(s.Val)
		case xhttp2.SettingMaxFrameSize:
			if s.Val < 1<<14 || s.Val > 1<<24-1 {
				return connErr(ProtocolError, "invalid SETTINGS_MAX_FRAME_SIZE")
			}
			c.peer.maxFrame = s.Val
		case xhttp2.SettingMaxHeaderListSize:
			c.peer.maxHeaderList = s.Val
		case xhttp2.SettingEnableConnectProtocol:
			if s.Val > 1 || s.Val == 0 && c.peer.connect { // RFC 8441 §3: it cannot be revoked
				return connErr(ProtocolError, "invalid SETTINGS_ENABLE_CONNECT_PROTOCOL")
			}
			c.peer.connect = s.Val == 1
		}
	}
	if err := c.setInitialWindow(window); err != nil {
		return err
	}
	c.control += frameHeaderLen
	c.emit(Event{Kind: EventSettings})
	return c.framer.WriteSettingsAck()
}

// setInitialWindow applies the peer's SETTINGS_INITIAL_WINDOW_SIZE to all open streams. A
// stream's window may become negative (RFC 9113 §6.9.2).
func (c *receiver) setInitialWindow(window int64) error {
	delta := window - c.peer.initialWindow
	if delta == 0 {
		return nil
	}
	if err := c.windowsChanged(); err != nil {
		return err
	}
	c.peer.initialWindow = window
	var opened []uint32
	for _, s := range c.streams.All() {
		if s.send += delta; s.send > maxWindow {
			return connErr(FlowControlError, "SETTINGS_INITIAL_WINDOW_SIZE overflows a stream's window")
		}
		if s.blocked && s.send > 0 {
			s.blocked = false
			opened = append(opened, s.id)
		}
	}
	slices.Sort(opened) // the order of events must not depend on the table
	for _, id := range opened {
		c.emit(Event{Kind: EventWindowOpened, Stream: id})
	}
	return nil
}
