import AVFoundation

/// A camera that cannot be used, and what to do about it.
struct CameraProblem: LocalizedError {
    let message: String

    var errorDescription: String? { message }
}

/// Upright BGRA frames of the front or back camera, one at a time on one queue; what comes while one is being worked on is dropped.
final class Camera: NSObject, AVCaptureVideoDataOutputSampleBufferDelegate {
    /// Both are called on the camera's queue.
    private let onFrame: (CMSampleBuffer) -> Void
    private let onDrop: () -> Void
    private let session = AVCaptureSession()
    private let output = AVCaptureVideoDataOutput()
    private let queue = DispatchQueue(label: "camera", qos: .userInteractive)

    init(onFrame: @escaping (CMSampleBuffer) -> Void, onDrop: @escaping () -> Void) {
        self.onFrame = onFrame
        self.onDrop = onDrop
        super.init()
    }

    /// Asks for the camera where that was not done before, and starts.  Throws CameraProblem.
    func start(position: AVCaptureDevice.Position) async throws {
        guard await AVCaptureDevice.requestAccess(for: .video) else {
            throw CameraProblem(message: "The camera is not allowed: Settings, MfsDemo, Camera")
        }
        try await withCheckedThrowingContinuation { (done: CheckedContinuation<Void, Error>) in
            queue.async {
                do {
                    try self.configure(position)
                    self.session.startRunning()
                    done.resume()
                } catch {
                    done.resume(throwing: error)
                }
            }
        }
    }

    func stop() {
        queue.async { self.session.stopRunning() }
    }

    private func configure(_ position: AVCaptureDevice.Position) throws {
        guard let device = AVCaptureDevice.default(.builtInWideAngleCamera, for: .video, position: position) else {
            throw CameraProblem(message: "This device has no such camera; the simulator has none at all")
        }
        let input = try AVCaptureDeviceInput(device: device)
        session.beginConfiguration()
        defer { session.commitConfiguration() }
        session.inputs.forEach { session.removeInput($0) }
        session.sessionPreset = .hd1280x720
        guard session.canAddInput(input) else { throw CameraProblem(message: "The camera is in use by another app") }
        session.addInput(input)
        if session.outputs.isEmpty {
            output.videoSettings = [kCVPixelBufferPixelFormatTypeKey as String: kCVPixelFormatType_32BGRA]
            output.alwaysDiscardsLateVideoFrames = true
            output.setSampleBufferDelegate(self, queue: queue)
            guard session.canAddOutput(output) else { throw CameraProblem(message: "The camera gives no frames") }
            session.addOutput(output)
        }
        guard let connection = output.connection(with: .video) else { throw CameraProblem(message: "The camera gives no frames") }
        // The frames come turned upright and, in front, mirrored: all after this sees the picture as the screen shows it.
        if #available(iOS 17.0, *) {
            if connection.isVideoRotationAngleSupported(90) { connection.videoRotationAngle = 90 }
        } else if connection.isVideoOrientationSupported {
            connection.videoOrientation = .portrait
        }
        if connection.isVideoMirroringSupported {
            connection.automaticallyAdjustsVideoMirroring = false
            connection.isVideoMirrored = position == .front
        }
    }

    func captureOutput(_ output: AVCaptureOutput, didOutput sampleBuffer: CMSampleBuffer, from connection: AVCaptureConnection) {
        onFrame(sampleBuffer)
    }

    func captureOutput(_ output: AVCaptureOutput, didDrop sampleBuffer: CMSampleBuffer, from connection: AVCaptureConnection) {
        onDrop()
    }
}
