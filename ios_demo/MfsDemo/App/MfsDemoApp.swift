import SwiftUI

@main
struct MfsDemoApp: App {
    private let command: BenchCommand?

    init() {
        do {
            if try BenchCommand.forget(CommandLine.arguments) { exit(0) }
            command = try BenchCommand.parse(CommandLine.arguments)
        } catch {
            let report = BenchCommand.report(in: CommandLine.arguments)
            exit(BenchCommand.fail(BenchCommand.ExitCode.usage, error.localizedDescription, report: report))
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
