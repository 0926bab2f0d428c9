"""virtio_net_hdr: the 10 bytes before every packet, on every device.

Owns the layout and its constants. It says what is left to the receiver of the frame: a checksum
to complete, a super-segment to cut. Virtio 1.2 §5.1.6; legacy little-endian layout without
num_buffers, as a Linux TUN with IFF_VNET_HDR carries it.
"""

import struct

HEADER_LEN = 10  # bytes; Linux tun.c: TUNSETVNETHDRSZ default

# flags (u8), gso_type (u8), hdr_len, gso_size, csum_start, csum_offset (u16 each).
# csum_start counts from the first byte of the IP packet, csum_offset from csum_start.
HEADER = struct.Struct("<BBHHHH")

# No work left: the checksums are complete and unverified, the packet is one wire packet.
PLAIN = bytes(HEADER_LEN)

# flags
NEEDS_CSUM = 1  # VIRTIO_NET_HDR_F_NEEDS_CSUM: the field holds the folded pseudo-header sum
DATA_VALID = 2  # VIRTIO_NET_HDR_F_DATA_VALID: the checksum has been verified already
CHECKSUM_KNOWN = NEEDS_CSUM | DATA_VALID  # either one: the receiver need not verify it

# gso_type
GSO_NONE = 0  # VIRTIO_NET_HDR_GSO_NONE
GSO_TCPV4 = 1  # VIRTIO_NET_HDR_GSO_TCPV4
GSO_UDP = 3  # VIRTIO_NET_HDR_GSO_UDP: IP fragments of one UDP datagram
GSO_TCPV6 = 4  # VIRTIO_NET_HDR_GSO_TCPV6
GSO_UDP_L4 = 5  # VIRTIO_NET_HDR_GSO_UDP_L4: many UDP datagrams of one size
GSO_ECN = 0x80  # VIRTIO_NET_HDR_GSO_ECN: or-ed in; CWR goes on the first wire segment only
