"""The mathematics on shares: one folder a protocol, all behind `base.Protocol`."""
