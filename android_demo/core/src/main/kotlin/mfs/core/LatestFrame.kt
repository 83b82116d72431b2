package mfs.core

import java.util.concurrent.locks.ReentrantLock
import kotlin.concurrent.withLock

/**
 * What becomes of frames that come faster than they are swapped: the newest waits, an older one is closed unseen.
 *
 * A queue would let the picture lag behind ever more.  Every frame put in is either handed out once or closed here, never both:
 * a camera stops when it does not get its few buffers back.
 */
class LatestFrame<T : AutoCloseable> {
    private val lock = ReentrantLock()
    private val changed = lock.newCondition()
    private var waiting: T? = null
    private var isOpen = true

    /** How many were closed unseen. */
    @Volatile var dropped = 0L
        private set

    fun put(frame: T) = lock.withLock {
        if (isOpen) {
            if (waiting != null) dropped++
            waiting?.close()
            waiting = frame
            changed.signalAll()
        } else {
            frame.close()
        }
    }

    /** Waits for a frame, which is the caller's to close; null once closed. */
    fun take(): T? = lock.withLock {
        while (isOpen && waiting == null) changed.await()
        waiting.also { waiting = null }
    }

    fun close() = lock.withLock {
        isOpen = false
        waiting?.close()
        waiting = null
        changed.signalAll()
    }
}
