import SwiftUI

@main
struct MfsDemoApp: App {
    private let command: BenchCommand?

    init() {
        do {
            command = try BenchCommand.parse(CommandLine.arguments)
        } catch {
            BenchCommand.complain(error.localizedDescription)
            exit(BenchCommand.ExitCode.usage)
        }
    }

    var body: some Scene {
        WindowGroup {
            if let command = command {
                BenchCommandView(command: command)
            } else {
                CameraScreen().preferredColorScheme(.dark)
            }
        }
    }
}
