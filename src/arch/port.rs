//! I/O ports of a virtual machine: its consoles, QEMU's exit device, and the masks of the legacy interrupt
//! controllers.

use x86_64::instructions::port::{PortReadOnly, PortWriteOnly};

/// The debug console of Xen (a domU's output appears in Xen's log as `(dN)`) and of QEMU.
const DEBUG_CONSOLE: u16 = 0xe9;
/// The first serial line.
const SERIAL: u16 = 0x3f8;
/// QEMU's `isa-debug-exit`: writing `c` ends QEMU with status `2c + 1`. No other device uses this port, and Xen hides
/// it from a domU.
const DEBUG_EXIT: u16 = 0xf4;

/// Writes to the debug console.
pub(crate) fn write_debug_console(bytes: &[u8]) {
    let mut port = PortWriteOnly::new(DEBUG_CONSOLE);
    for &byte in bytes {
        // SAFETY: the port only takes text; without a console the write has no effect.
        unsafe { port.write(byte) };
    }
}

/// Writes to the first serial line while it accepts bytes. A missing line reads as all ones and so looks ready. It
/// gives up on a stuck line after `PATIENCE` polls.
pub(crate) fn write_serial(bytes: &[u8]) {
    const LINE_STATUS: u16 = 5;
    const TRANSMITTER_EMPTY: u8 = 1 << 5;
    const TIMEOUT: u32 = 100_000;
    let mut data = PortWriteOnly::new(SERIAL);
    let mut status: PortReadOnly<u8> = PortReadOnly::new(SERIAL + LINE_STATUS);
    for &byte in bytes {
        // SAFETY: reading the line status has no effect on other code.
        let ready = (0..TIMEOUT).any(|_| unsafe { status.read() } & TRANSMITTER_EMPTY != 0);
        if !ready {
            return;
        }
        // SAFETY: the port takes text.
        unsafe { data.write(byte) };
    }
}

/// Masks every line of the two legacy interrupt controllers. As the BIOS leaves them, the timer's interrupt comes as
/// vector 8, a double fault. Xen gives a PVH guest no such controllers; the writes then have no effect.
pub(crate) fn silence_legacy_interrupts() {
    for controller in [0x21, 0xa1] {
        // SAFETY: these are the mask registers of the controllers, and no other code here uses them.
        unsafe { PortWriteOnly::new(controller).write(0xffu8) };
    }
}

/// Asks QEMU to end with `code`. Returns if there is no such device.
pub(crate) fn debug_exit(code: u32) {
    // SAFETY: only QEMU's debug device uses this port, and ending the machine is intended.
    unsafe { PortWriteOnly::new(DEBUG_EXIT).write(code) };
}
