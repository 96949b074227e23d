"""Records' bytes to frames, in each format that is on the wire."""

from penstock.streams.decoding.decoded import BadRecord, Decoded, Decoder
from penstock.streams.decoding.formats import Format, decoder_of

__all__ = ["BadRecord", "Decoded", "Decoder", "Format", "decoder_of"]
