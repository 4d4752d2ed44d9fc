"""What a forwarder counts, so that whoever measures over its lines knows whether they were what they say."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Counts:
    """What one direction of a pair has done so far, in packets."""

    carried: int
    lost: int  # by chance, as the profile says
    dropped: int  # for the queue was full, as the profile says
    overrun: int  # for there was no memory left
    refused: int  # by the device at the other end
    late: int  # delivered more than a millisecond after their time
    latest_ms: float  # how late the latest was

    @property
    def faithful(self) -> bool:
        """Whether they travelled as the profile says: hardly any was late, none was thrown away for want of memory."""
        return self.overrun == 0 and self.late <= 0.01 * self.carried
